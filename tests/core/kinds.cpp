// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/kinds.hpp>

namespace ls = longspan;

// A shape holds its kinds by value and is a template argument: a kind is one byte that a template can be chosen by.
template <ls::norm_kind Norm, ls::mlp_kind Mlp, ls::position_kind Positions>
constexpr bool gpt2 = Norm == ls::norm_kind::layer && Mlp == ls::mlp_kind::gelu_tanh && Positions == ls::position_kind::learned;

TEST_CASE("kinds choose templates and cost a byte each") {
    CHECK(gpt2<ls::norm_kind::layer, ls::mlp_kind::gelu_tanh, ls::position_kind::learned>);
    CHECK_FALSE(gpt2<ls::norm_kind::rms, ls::mlp_kind::silu_gated, ls::position_kind::rotary>);
    CHECK(sizeof(ls::norm_kind) + sizeof(ls::mlp_kind) + sizeof(ls::position_kind) == 3);
}
