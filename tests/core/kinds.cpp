// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/core/kinds.hpp>

namespace ls = longspan;

// A shape that names none of its choices is Llama's; a snapshot describes a model by these.
static_assert(ls::norm_kind{} == ls::norm_kind::rms);
static_assert(ls::mlp_kind{} == ls::mlp_kind::silu_gated);
static_assert(ls::position_kind{} == ls::position_kind::rotary);

TEST_CASE("kinds: one byte each, in an order that snapshots may rely on") {
    CHECK(sizeof(ls::norm_kind) + sizeof(ls::mlp_kind) + sizeof(ls::position_kind) == 3);
    CHECK(static_cast<int>(ls::norm_kind::layer) == 1);
    CHECK(static_cast<int>(ls::mlp_kind::gelu_tanh) == 2);
    CHECK(static_cast<int>(ls::position_kind::alibi) == 3);
    CHECK(static_cast<int>(ls::position_kind::none) == 4);
}
