// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/band.hpp>

#include <doctest/doctest.h>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::proven;

static_assert(proven<ls::pattern_of<ls::full>>());
static_assert(proven<ls::pattern_of<ls::causal>>());
static_assert(proven<ls::pattern_of<ls::window<1>>>());
static_assert(proven<ls::pattern_of<ls::window<5>>>());
static_assert(proven<ls::pattern_of<ls::window<40>>>());
static_assert(proven<ls::pattern_of<ls::window_up_to>>({.width = 1}));
static_assert(proven<ls::pattern_of<ls::window_up_to>>({.width = 6}));
static_assert(proven<ls::pattern_of<ls::window_up_to>>({.width = ls::index{0x7fffffffffffffff}}));

TEST_CASE("band: window<W> means |q - k| < W") {
    using window = ls::pattern_of<ls::window<3>>;
    for (ls::index q = 0; q < 12; ++q) {
        for (ls::index k = 0; k < 12; ++k) {
            CHECK(window::contains({}, 0, q, k) == (q - k < 3 && k - q < 3));
            CHECK(ls::pattern_of<ls::causal>::contains({}, 0, q, k) == (k <= q));
            CHECK(ls::pattern_of<ls::full>::contains({}, 0, q, k));
        }
    }
}

TEST_CASE("band: positions beyond 32 bits") {
    using window = ls::pattern_of<ls::window<1024>>;
    const ls::index far = ls::index{1} << 40;
    CHECK(window::keys({}, 0, {far, far + 64}).any.items[0] == ls::interval{far - 1023, far + 64 + 1023});
    CHECK(window::keys({}, 0, {far, far + 64}).all.items[0] == ls::interval{far + 63 - 1023, far + 1024});
    CHECK(window::queries({}, 0, {far, far + 64}).all.items[0] == ls::interval{far + 63 - 1023, far + 1024});
    CHECK(window::key_bits({}, 0, far, far - 1024) == 0xfffffffeu);
    CHECK(ls::classify<ls::pattern_of<ls::causal>>({}, 0, {far, far + 64}, {0, far}) == ls::tile_class::full);
}

TEST_CASE("band: a run-time width equals the compile-time one, and 0 is complained about") {
    using fixed = ls::pattern_of<ls::window<7>>;
    using free = ls::pattern_of<ls::window_up_to>;
    for (ls::index begin = 0; begin < 30; ++begin) {
        CHECK(fixed::keys({}, 0, {begin, begin + 5}).any.items[0] == free::keys({7}, 0, {begin, begin + 5}).any.items[0]);
    }
    CHECK(ls::complaint<free>({7}, 1) == nullptr);
    CHECK(ls::complaint<free>({0}, 1) == doctest::String("window_up_to: a query sees at least itself, so the width is at least 1"));
}
