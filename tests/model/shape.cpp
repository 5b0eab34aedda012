// SPDX-License-Identifier: Apache-2.0
// What contradicts itself is refused at compile time: tests/misuse.
#include <doctest/doctest.h>

#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

constexpr ls::decoder_shape plain{.layers = 2, .width = 64, .heads = 4, .hidden = 10, .vocabulary = 5, .context = 8};
constexpr ls::decoder_shape grouped{.layers = 2, .width = 60, .heads = 8, .key_value_heads = 2, .head_width = 16, .hidden = 10, .vocabulary = 5, .context = 8,
                                    .mlp = ls::mlp_kind::gelu};
static_assert(ls::check_shape<plain>());
static_assert(ls::check_shape<grouped>());  // 8 heads do not divide 60, but their width is named
static_assert(plain.head() == 16 && plain.query_width() == 64 && plain.grouped_heads() == 4 && plain.key_value_width() == 64);
static_assert(grouped.head() == 16 && grouped.query_width() == 128 && grouped.grouped_heads() == 2 && grouped.key_value_width() == 32);
static_assert(plain.gated() && !grouped.gated());

}  // namespace

TEST_CASE("shape: equal where every number is") {
    ls::decoder_shape other = plain;
    CHECK(other == plain);
    other.loss_chunk += 1;
    CHECK(other != plain);
}
