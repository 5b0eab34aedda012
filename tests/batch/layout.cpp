// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <numeric>

#include <longspan/batch/layout.hpp>
#include <longspan/data/hash.hpp>

namespace ls = longspan;
using ls::index;

namespace {

std::vector<index> random_lengths(std::size_t count, index longest, std::uint64_t seed) {
    std::vector<index> lengths;
    for (std::uint64_t i = 0; i < count; ++i)
        lengths.push_back(1 + static_cast<index>(ls::mix64(seed + i) % static_cast<std::uint64_t>(longest)));
    return lengths;
}

/// Each item once; within a batch by increasing begin, apart, inside the budget, and at most max_pieces − 1 of them.
void check_valid(const ls::batch_layout& layout, const std::vector<index>& lengths, index budget, index max_pieces) {
    std::vector<int> seen(lengths.size(), 0);
    for (const ls::batch_placements& placed : layout) {
        REQUIRE_FALSE(placed.empty());
        REQUIRE(static_cast<index>(placed.size()) < max_pieces);
        index end = 0;
        for (const ls::placement& p : placed) {
            REQUIRE(p.begin >= end);
            end = p.begin + lengths.at(static_cast<std::size_t>(p.item));
            ++seen.at(static_cast<std::size_t>(p.item));
        }
        REQUIRE(end <= budget);
    }
    for (const int times : seen) REQUIRE(times == 1);
}

index least_batches(const std::vector<index>& lengths, index budget) {
    return ls::ceil_div(std::accumulate(lengths.begin(), lengths.end(), index{0}), budget);
}

}  // namespace

TEST_CASE("lay_packed: best-fit decreasing, by hand") {
    // 7 opens batch 0 (3 left), 6 opens 1 (4 left), 4 goes to 1 (full), 3 to 0 (full), 3 opens 2, 1 follows it.
    const std::vector<index> lengths{3, 6, 1, 7, 4, 3};
    const ls::batch_layout expected{{{3, 0}, {0, 7}}, {{1, 0}, {4, 6}}, {{5, 0}, {2, 3}}};
    CHECK(ls::lay_packed(lengths, 10, 99) == expected);
    // The fullest batch that still has room is not the first one: 2 goes behind 8, not behind 6.
    CHECK(ls::lay_packed(std::vector<index>{6, 7, 8, 2}, 10, 99) ==
          ls::batch_layout{{{2, 0}, {3, 8}}, {{1, 0}}, {{0, 0}}});
}

TEST_CASE("lay_packed: valid, dense, and quick for many pieces") {
    for (const index budget : {1, 2, 63, 64, 65, 2048})
        for (const index max_pieces : {2, 3, 9, 5000}) {
            const std::vector<index> lengths = random_lengths(500, budget, 3);
            check_valid(ls::lay_packed(lengths, budget, max_pieces), lengths, budget, max_pieces);
        }
    const std::vector<index> many = random_lengths(60000, 700, 4);
    const ls::batch_layout layout = ls::lay_packed(many, 2048, 1000);
    check_valid(layout, many, 2048, 1000);
    CHECK(static_cast<index>(layout.size()) <= least_batches(many, 2048) + 1);
}

TEST_CASE("lay_bucketed: lengths within a batch are within a factor of two") {
    for (const index budget : {64, 65, 2048})
        for (const index max_pieces : {2, 9, 5000}) {
            const std::vector<index> lengths = random_lengths(500, budget, 5);
            const ls::batch_layout layout = ls::lay_bucketed(lengths, budget, max_pieces);
            check_valid(layout, lengths, budget, max_pieces);
            for (const ls::batch_placements& placed : layout) {
                index shortest = budget, longest = 1;
                for (const ls::placement& p : placed) {
                    shortest = std::min(shortest, lengths[static_cast<std::size_t>(p.item)]);
                    longest = std::max(longest, lengths[static_cast<std::size_t>(p.item)]);
                }
                CHECK(longest < 2 * shortest);
            }
        }
    CHECK(ls::lay_bucketed(std::vector<index>{4, 1, 3, 2, 4, 1}, 8, 99) ==
          ls::batch_layout{{{0, 0}, {2, 4}}, {{1, 0}, {5, 1}}, {{3, 0}}, {{4, 0}}});
    CHECK(ls::lay_bucketed(std::vector<index>{4, 4, 4}, 8, 99) == ls::batch_layout{{{0, 0}, {1, 4}}, {{2, 0}}});
}

TEST_CASE("lay_padded: one piece a row") {
    CHECK(ls::lay_padded(std::vector<index>{5, 1, 8, 2}, 24, 8) == ls::batch_layout{{{0, 0}, {1, 8}, {2, 16}}, {{3, 0}}});
    const std::vector<index> lengths = random_lengths(101, 32, 6);
    const ls::batch_layout layout = ls::lay_padded(lengths, 128, 32);
    check_valid(layout, lengths, 128, 9);
    CHECK(layout.size() == 26);
}

TEST_CASE("layouts of nothing are empty") {
    CHECK(ls::lay_packed({}, 8, 4).empty());
    CHECK(ls::lay_bucketed({}, 8, 4).empty());
    CHECK(ls::lay_padded({}, 8, 4).empty());
}
