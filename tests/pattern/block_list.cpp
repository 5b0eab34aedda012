// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/block_list.hpp>

#include <doctest/doctest.h>

#include <string>

#include "checker.hpp"

namespace ls = longspan;
using ls::checker::verdict;

namespace {

// Four blocks of queries, five of keys.
constexpr ls::index offsets[]{0, 1, 1, 4, 7};
constexpr std::int32_t ids[]{0, 0, 1, 3, 1, 2, 4};

struct transposed_lists {
    ls::index offsets[6]{};
    std::int32_t ids[7]{};
};
constexpr transposed_lists transposed = [] {
    transposed_lists lists{};
    (void)ls::transpose({offsets, ids, 4}, 5, lists.offsets, lists.ids);
    return lists;
}();
constexpr ls::block_lists lists{.block = 3, .keys_of_query = {offsets, ids, 4}, .queries_of_key = {transposed.offsets, transposed.ids, 5}};
using listed = ls::pattern_of<ls::block_list>;

std::string said(const ls::block_lists& a) {
    const char* sentence = ls::complaint<listed>(a, 1);
    return sentence != nullptr ? sentence : "";
}

}  // namespace

static_assert(ls::checker::check_sets<17, listed>(lists) == verdict::exact);
static_assert(ls::checker::check_bits<17, listed>(lists, 0, 5));
// With room for fewer stretches than the lists have, tiles are tested without need, never wrongly.
static_assert(ls::checker::check_sets<17, ls::pattern_of<ls::block_list_of<1>>>(lists) == verdict::slack);
static_assert(ls::complaint<listed>(lists, 1) == nullptr);

TEST_CASE("block_list: the pairs of the lists, and nothing beyond them") {
    const bool pairs[4][5]{{true}, {}, {true, true, false, true}, {false, true, true, false, true}};
    for (ls::index q = 0; q < 20; ++q) {
        for (ls::index k = 0; k < 20; ++k) {
            CHECK(listed::contains(lists, 0, q, k) == (q < 12 && k < 15 && pairs[q / 3][k / 3]));
        }
    }
}

TEST_CASE("block_list: the next key that a run of queries sees") {
    for (ls::index begin = 0; begin < 14; ++begin) {
        for (ls::index end = begin + 1; end < 16; ++end) {
            for (ls::index from = 0; from < 18; ++from) {
                ls::index next = ls::no_end;
                for (ls::index k = 17; k >= from; --k) {
                    for (ls::index q = begin; q < end; ++q) next = listed::contains(lists, 0, q, k) ? k : next;
                }
                CHECK(listed::next_key(lists, 0, {begin, end}, from) == next);
            }
        }
    }
}

TEST_CASE("block_list: words over many blocks, wherever they begin") {
    // Every block sees each other one of the same parity; blocks of 4, so that a word holds nine.
    constexpr ls::index blocks = 20;
    ls::index starts[blocks + 1]{}, columns[blocks + 1]{};
    std::int32_t keys[blocks * blocks / 2]{}, queries[blocks * blocks / 2]{};
    for (ls::index q = 0, count = 0; q < blocks; ++q) {
        for (ls::index k = q % 2; k < blocks; k += 2) keys[count++] = static_cast<std::int32_t>(k);
        starts[q + 1] = count;
    }
    const ls::block_rows rows{starts, keys, blocks};
    const ls::block_lists many{4, rows, ls::transpose(rows, blocks, columns, queries)};
    REQUIRE(said(many) == "");
    CHECK(ls::checker::check_bits<70, listed>(many));
    CHECK(ls::checker::check_sets<70, listed>(many) == verdict::exact);
}

TEST_CASE("block_list: lists that cannot be are complained about") {
    CHECK(said({}) == "block_list: expected offsets of both directions, but none were given");
    ls::block_lists bad = lists;
    bad.block = 0;
    CHECK(said(bad) == "block_list: a block holds at least 1 position, but block is smaller");

    const ls::index late[]{1, 1, 1, 4, 7};
    bad = lists;
    bad.keys_of_query.offsets = late;
    CHECK(said(bad) == "block_list: the first offset is 0, but another came");

    const ls::index falling[]{0, 4, 1, 4, 7};
    bad.keys_of_query.offsets = falling;
    CHECK(said(bad) != "");

    bad = lists;
    bad.keys_of_query.ids = nullptr;
    CHECK(said(bad) == "block_list: expected ids, but none were given");

    const std::int32_t beyond[]{0, 0, 1, 3, 1, 2, 5};
    bad.keys_of_query.ids = beyond;
    CHECK(said(bad) == "block_list: an id names a block that the other direction does not have");

    const std::int32_t unsorted[]{0, 1, 0, 3, 1, 2, 4};
    bad.keys_of_query.ids = unsorted;
    CHECK(said(bad) == "block_list: ids increase within a row, but one does not");

    const std::int32_t other_pairs[]{0, 0, 1, 3, 0, 2, 4};
    bad.keys_of_query.ids = other_pairs;
    CHECK(said(bad) == "block_list: both directions hold the same pairs, but one lacks a pair");
}
