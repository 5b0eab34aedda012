// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/blocks.hpp>

#include <doctest/doctest.h>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::proven;

namespace {

constexpr auto checkered = ls::block_map_of<3, 6>([](ls::index q, ls::index k) { return (q + k) % 2 == 0; });
constexpr auto wide = ls::block_map_of<4, 3, 7>([](ls::index q, ls::index k) { return k == 0 || k - q == 2; });
constexpr auto small = ls::block_map_of<2, 2>([](ls::index, ls::index) { return true; });

}  // namespace

static_assert(proven<ls::pattern_of<ls::blocks<checkered>>>());
static_assert(proven<ls::pattern_of<ls::blocks<wide>>>());
static_assert(proven<ls::pattern_of<ls::blocks<small>>>());  // positions beyond the map see nothing
static_assert(ls::key_capacity<ls::pattern_of<ls::blocks<wide>>> == 4 && ls::query_capacity<ls::pattern_of<ls::blocks<wide>>> == 2);

TEST_CASE("blocks: a map's blocks, and nothing beyond it") {
    using p = ls::pattern_of<ls::blocks<wide>>;
    for (ls::index q = 0; q < 40; ++q) {
        for (ls::index k = 0; k < 40; ++k) {
            CHECK(p::contains({}, 0, q, k) == (q < 12 && k < 28 && (k / 4 == 0 || k / 4 - q / 4 == 2)));
        }
    }
}

TEST_CASE("blocks: a map of thousands of blocks") {
    constexpr auto map = ls::block_map_of<64, 64>([](ls::index q, ls::index k) { return k <= q && (k == 0 || q - k < 3 || (q * 7 + k * 5) % 11 == 0); });
    using p = ls::pattern_of<ls::causal & ls::blocks<map>>;
    CHECK(ls::classify<p>({}, 0, {640, 704}, {0, 64}) == ls::tile_class::full);
    CHECK(ls::classify<p>({}, 0, {640, 704}, {640, 704}) == ls::tile_class::partial);
    CHECK(ls::classify<p>({}, 0, {640, 704}, {704, 768}) == ls::tile_class::empty);
}

TEST_CASE("blocks: words over many blocks, wherever they begin") {
    constexpr auto map = ls::block_map_of<5, 14>([](ls::index q, ls::index k) { return (q * 3 + k) % 4 < 2; });
    CHECK(ls::checker::check_bits<70, ls::pattern_of<ls::blocks<map>>>());
}
