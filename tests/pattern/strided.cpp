// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/strided.hpp>

#include <doctest/doctest.h>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::proven;
using ls::checker::verdict;

static_assert(proven<ls::pattern_of<ls::strided<1>>>());
static_assert(proven<ls::pattern_of<ls::strided<3>>>({}, 0, verdict::slack));
static_assert(proven<ls::pattern_of<ls::dilated_window<4, 1>>>());
static_assert(proven<ls::pattern_of<ls::dilated_window<3, 2>>>({}, 0, verdict::slack));
static_assert(proven<ls::pattern_of<ls::dilated_window<2, 5>>>({}, 0, verdict::slack));

TEST_CASE("strided: the definitions") {
    using dilated = ls::pattern_of<ls::dilated_window<3, 4>>;
    for (ls::index q = 0; q < 40; ++q) {
        for (ls::index k = 0; k < 40; ++k) {
            const ls::index apart = q < k ? k - q : q - k;
            CHECK(ls::pattern_of<ls::strided<4>>::contains({}, 0, q, k) == (apart % 4 == 0));
            CHECK(dilated::contains({}, 0, q, k) == (apart < 3 * 4 && apart % 4 == 0));
        }
    }
}

TEST_CASE("strided: causal & dilated_window<W, S> sees W keys, the query's own included") {
    using causal = ls::pattern_of<ls::causal & ls::dilated_window<5, 3>>;
    int seen = 0;
    for (ls::index k = 0; k < 200; ++k) seen += causal::contains({}, 0, 100, k) ? 1 : 0;
    CHECK(seen == 5);
    CHECK(causal::contains({}, 0, 100, 100));
}

TEST_CASE("strided: a window no wider than its farthest key") {
    CHECK(ls::pattern_of<ls::dilated_window<3, 4>>::keys({}, 0, {100, 101}).any.items[0] == ls::interval{92, 109});
}
