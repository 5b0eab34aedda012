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

TEST_CASE("rows of a matrix are all tokens of a table, or some of them") {
    constexpr std::array pieces{ls::piece{7, 0, 0}, ls::piece{8, 0, 3}};
    const ls::piece_rows all = ls::piece_table{pieces, 10};
    CHECK(all.first == 0);
    CHECK(all.count == 10);
    CHECK(all.valid());
    CHECK(ls::piece_rows(all.of, 4, 6).valid());
    CHECK(ls::piece_rows(all.of, 10, 0).valid());
    CHECK_FALSE(ls::piece_rows(all.of, 4, 7).valid());
    CHECK_FALSE(ls::piece_rows(all.of, -1, 7).valid());
    CHECK_FALSE(ls::piece_rows(all.of, 4, -1).valid());
}

TEST_CASE("no pieces") { CHECK(ls::piece_table{}.count() == 0); }
