// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/compose.hpp>

#include <doctest/doctest.h>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::proven;
using ls::checker::verdict;

namespace {

constexpr ls::index lengths[]{0, 6};
constexpr ls::prefix_lengths prefixes{lengths};

}  // namespace

// The shipped compositions are exact in both directions.
static_assert(proven<ls::pattern_of<ls::causal & ls::window<4>>>());
static_assert(proven<ls::pattern_of<ls::causal & (ls::window<4> | ls::first<3>)>>());
static_assert(proven<ls::pattern_of<ls::causal & (ls::first<3> | ls::window<4>)>>());
static_assert(proven<ls::pattern_of<ls::window<4> | ls::first<3>>>());
static_assert(proven<ls::pattern_of<ls::window<4> | ls::global<3>>>());
static_assert(proven<ls::pattern_of<ls::causal & (ls::window<4> | ls::global<3>)>>());
static_assert(proven<ls::pattern_of<ls::causal | ls::prefix>>(prefixes, 0));
static_assert(proven<ls::pattern_of<ls::causal | ls::prefix>>(prefixes, 1));
static_assert(proven<ls::pattern_of<(ls::causal & ls::window<5>) | ls::prefix>>(prefixes, 1));
static_assert(proven<ls::pattern_of<ls::causal & (ls::window<4> | ls::strided<3>)>>({}, 0, verdict::slack));

// Arguments: what only one part has stays as it is.
static_assert(std::is_same_v<ls::pattern_of<ls::causal & ls::window<4>>::arguments, ls::no_arguments>);
static_assert(std::is_same_v<ls::pattern_of<ls::causal & (ls::window<4> | ls::prefix)>::arguments, ls::prefix_lengths>);
static_assert(std::is_same_v<ls::pattern_of<ls::window_up_to & ls::prefix>::arguments, ls::paired_arguments<ls::window_width, ls::prefix_lengths>>);
// A kernel keeps a constant number of intervals per tile.
static_assert(ls::key_capacity<ls::pattern_of<ls::causal>> == 1);
static_assert(ls::key_capacity<ls::pattern_of<ls::causal & (ls::window<4> | ls::first<3>)>> == 2);
static_assert(ls::query_capacity<ls::pattern_of<ls::causal & (ls::window<4> | ls::first<3> | ls::global<1>)>> == 3);

TEST_CASE("compose: & and | are those of the elements") {
    using a = ls::pattern_of<ls::window<5>>;
    using b = ls::pattern_of<ls::first<4>>;
    for (ls::index q = 0; q < 30; ++q) {
        for (ls::index k = 0; k < 30; ++k) {
            CHECK(ls::pattern_of<ls::window<5> & ls::first<4>>::contains({}, 0, q, k) == (a::contains({}, 0, q, k) && b::contains({}, 0, q, k)));
            CHECK(ls::pattern_of<ls::window<5> | ls::first<4>>::contains({}, 0, q, k) == (a::contains({}, 0, q, k) || b::contains({}, 0, q, k)));
        }
    }
}

TEST_CASE("compose: the run-time values of both parts reach them") {
    using mixed = ls::pattern_of<ls::window_up_to | ls::prefix>;
    const mixed::arguments values{{3}, prefixes};
    CHECK(ls::checker::check_sets<17, mixed>(values, 1) == verdict::exact);
    CHECK(ls::checker::check_bits<17, mixed>(values, 1));
    CHECK(mixed::contains(values, 1, 12, 5));
    CHECK_FALSE(mixed::contains(values, 0, 12, 5));
    CHECK(ls::complaint<mixed>(values, 2) == nullptr);
    CHECK(ls::complaint<mixed>({{0}, prefixes}, 2) != nullptr);
    CHECK(ls::complaint<mixed>({{1}, {}}, 2) != nullptr);
}
