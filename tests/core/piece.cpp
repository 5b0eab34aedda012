// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/piece.hpp>

#include <array>

namespace ls = longspan;

TEST_CASE("pieces lie end to end and the last one ends with the batch") {
    // Documents of 3, 0 and 4 tokens, then an unfilled tail of 3.
    constexpr std::array pieces{ls::piece{7, 0, 0}, ls::piece{8, 0, 3}, ls::piece{9, 12, 3}, ls::piece{-1, 0, 7}};
    const ls::piece_table table{pieces, 10};
    REQUIRE(table.count() == 4);
    const ls::index lengths[] = {3, 0, 4, 3};
    ls::index next = 0;
    for (ls::index i = 0; i < table.count(); ++i) {
        CHECK(table.begin(i) == next);
        CHECK(table.length(i) == lengths[i]);
        next = table.end(i);
    }
    CHECK(next == table.tokens);
    CHECK(table[2] == ls::piece{9, 12, 3});
    CHECK_FALSE(table[2] == ls::piece{9, 11, 3});
}

TEST_CASE("no pieces") { CHECK(ls::piece_table{}.count() == 0); }
