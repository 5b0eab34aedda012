// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/strip.hpp>

#include <doctest/doctest.h>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::proven;

namespace {

constexpr ls::index lengths[]{0, 6, 40};
constexpr ls::prefix_lengths prefixes{lengths};

}  // namespace

static_assert(proven<ls::pattern_of<ls::first<1>>>());
static_assert(proven<ls::pattern_of<ls::first<5>>>());
static_assert(proven<ls::pattern_of<ls::first<40>>>());
static_assert(proven<ls::pattern_of<ls::global<1>>>());
static_assert(proven<ls::pattern_of<ls::global<5>>>());
static_assert(proven<ls::pattern_of<ls::prefix>>(prefixes, 0));
static_assert(proven<ls::pattern_of<ls::prefix>>(prefixes, 1));
static_assert(proven<ls::pattern_of<ls::prefix>>(prefixes, 2));

TEST_CASE("strip: the definitions") {
    for (ls::index q = 0; q < 12; ++q) {
        for (ls::index k = 0; k < 12; ++k) {
            CHECK(ls::pattern_of<ls::first<4>>::contains({}, 0, q, k) == (k < 4));
            CHECK(ls::pattern_of<ls::global<4>>::contains({}, 0, q, k) == (q < 4 || k < 4));
            CHECK(ls::pattern_of<ls::prefix>::contains(prefixes, 1, q, k) == (k < 6));
        }
    }
}

TEST_CASE("strip: what it covers wholly is set aside") {
    CHECK(ls::uncovered_keys<ls::pattern_of<ls::first<4>>>({}, 0, {2, 9}) == ls::interval{4, 9});
    CHECK(ls::uncovered_keys<ls::pattern_of<ls::first<4>>>({}, 0, {5, 9}) == ls::interval{5, 9});
    CHECK(ls::uncovered_queries<ls::pattern_of<ls::first<4>>>({}, 0, {2, 9}) == ls::interval{2, 9});
    CHECK(ls::uncovered_queries<ls::pattern_of<ls::global<4>>>({}, 0, {2, 9}) == ls::interval{4, 9});
    CHECK(ls::uncovered_keys<ls::pattern_of<ls::prefix>>(prefixes, 1, {0, 6}).empty());
}

TEST_CASE("strip: prefix lengths that cannot be") {
    using prefix = ls::pattern_of<ls::prefix>;
    CHECK(ls::complaint<prefix>(prefixes, 3) == nullptr);
    CHECK(ls::complaint<prefix>({}, 1) != nullptr);
    const ls::index negative[]{3, -1};
    CHECK(ls::complaint<prefix>({negative}, 1) == nullptr);
    CHECK(ls::complaint<prefix>({negative}, 2) == doctest::String("prefix: a prefix length is at least 0, but a negative one came"));
}
