// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/memory/layout.hpp>

namespace ls = longspan;
using ls::either, ls::region, ls::together;

static_assert(region("a", 100).peak(64) == 128);
static_assert(region("a", 100).peak(1) == 100);
static_assert(region("none", 0).peak(64) == 0);
static_assert(together("").peak(64) == 0);
static_assert(either("").peak(64) == 0);
static_assert(together("", region("a", 1), region("b", 65)).peak(64) == 64 + 128);
static_assert(either("", region("a", 1), region("b", 65)).peak(64) == 128);
// Regions are rounded one by one, groups are not.
static_assert(region("a", 1).repeated(3).peak(64) == 192);
static_assert(together("", region("a", 1), either("", region("b", 64), together("", region("c", 1), region("d", 1)))).repeated(2).peak(64) == 2 * 192);
// Nesting makes no difference to a sum.
static_assert(together("", together("", region("a", 5), region("b", 6)), region("c", 7)).peak(8) ==
              together("", region("a", 5), together("", region("b", 6), region("c", 7))).peak(8));
static_assert(region("a", 1).repeated(0).peak(64) == 0);

namespace {

constexpr auto make = [] { return together("all", region("a", 100), either("", region("b", 7), region("c", 200)).repeated(2, "pair")); };
constexpr auto frozen = ls::freeze<make>();
static_assert(frozen.peak(64) == 128 + 2 * 256);
static_assert(frozen.nodes[0].nodes == 5);

}  // namespace

TEST_CASE("layout: the tree is kept in preorder, and sums beyond 32 bits are right") {
    const ls::layout all = make();
    REQUIRE(all.nodes().size() == 5);
    CHECK(all.nodes()[2].name == "pair");
    CHECK(all.nodes()[2].times == 2);
    CHECK(all.nodes()[2].nodes == 3);
    CHECK(all.nodes()[4].name == "c");
    CHECK(all.peak(64) == frozen.peak(64));
    CHECK(region("wide", 3'000'000'000).repeated(4).peak(64) == 12'000'000'000);
    ls::layout grown = together("g");
    grown.add(region("a", 1));
    grown.add(all);
    CHECK(grown.nodes()[0].nodes == 7);
    CHECK(grown.peak(64) == 64 + all.peak(64));
}

TEST_CASE("layout: only regions of some cost") {
    const ls::layout all = together("all", region("a", 64, ls::cost::attention), either("or", region("b", 128), region("c", 192, ls::cost::product)).repeated(2));
    const auto peak = [&](ls::cost from) { return all.only([&](ls::cost worth) { return worth >= from; }).peak(64); };
    CHECK(peak(ls::cost::pass) == 64 + 2 * 192);
    CHECK(peak(ls::cost::attention) == 64);
    CHECK(peak(ls::cost::output) == 0);
    CHECK(all.only([](ls::cost worth) { return worth < ls::cost::product; }).peak(64) == 2 * 128);
}
