// SPDX-License-Identifier: Apache-2.0
#include <longspan/cuda/hopper/detail/remainders.hpp>

#include <doctest/doctest.h>

#include <deque>
#include <random>
#include <set>
#include <vector>

#include <longspan/pattern/comb.hpp>
#include <longspan/pattern/runs.hpp>

namespace {

namespace hopper = longspan::cuda::hopper::detail;
using longspan::attention_segment, longspan::index;

template <class F>
void for_each_step(F&& f) {
    const auto of = [&]<int... Steps>(std::integer_sequence<int, Steps...>) { (f(std::integral_constant<int, Steps>{}), ...); };
    of(std::integer_sequence<int, 2, 3, 8, 61>{});
}

constexpr int block = 128;

std::vector<index> lengths_for(int step) {
    std::vector<index> all;
    for (const int n : {1, 2, step - 1, step, step + 1, block, block + 1, 2 * block + 3, (block - 1) * step + 1, block * step - 1, block * step,
                        block * step + 1, 3 * block * step + step / 2, 9001}) {
        if (n >= 1) all.push_back(n);
    }
    return all;
}

}  // namespace

TEST_CASE("remainders: the rows of all classes are the rows of the segment, one class behind the other") {
    for_each_step([](auto step) {
        for (index n = 0; n < 300; ++n) {
            const hopper::row_classes<step> classes{n};
            std::vector<int> met(static_cast<std::size_t>(n)), sums(static_cast<std::size_t>(n));
            index begin = 0;
            for (index r = 0; r < step; ++r) {
                REQUIRE(classes.begin(r) == begin);
                begin += classes.rows(r);
                for (index i = 0; i < classes.rows(r); ++i) {
                    REQUIRE(i * step + r < n);
                    ++met[static_cast<std::size_t>(i * step + r)], ++sums[static_cast<std::size_t>(classes.begin(r) + i)];
                }
            }
            CHECK(begin == n);
            CHECK(std::set<int>(met.begin(), met.end()).size() <= 1);
            CHECK(std::set<int>(sums.begin(), sums.end()).size() <= 1);
        }
    });
}

TEST_CASE("remainders: listed blocks stand for every block of every class once, a few more than are listed") {
    for_each_step([](auto step) {
        for (const index n : lengths_for(step)) {
            const hopper::class_blocks<step, block> blocks(n);
            const hopper::row_classes<step> classes{n};
            REQUIRE(blocks.listed == static_cast<unsigned>(longspan::ceil_div(n, block)));
            CHECK(blocks.begin(0) == 0);
            CHECK(blocks.begin(blocks.listed) == blocks.all);
            CHECK(blocks.all >= blocks.listed);
            CHECK(blocks.all < blocks.listed + step);
            std::vector<int> met(static_cast<std::size_t>(n));
            for (unsigned b = 0; b < blocks.listed; ++b) {
                CHECK(blocks.begin(b + 1) > blocks.begin(b));
                for (unsigned v = blocks.begin(b); v < blocks.begin(b + 1); ++v) {
                    const index of = blocks.class_of(v), first = index{blocks.number_of(v)} * block;
                    REQUIRE(first < classes.rows(of));
                    for (index i = first; i < std::min(first + block, classes.rows(of)); ++i) ++met[static_cast<std::size_t>(i * step + of)];
                }
            }
            CHECK(std::set<int>(met.begin(), met.end()) == std::set<int>{1});
        }
    });
}

TEST_CASE("remainders: a class's segment holds the queries and keys of one remainder, wherever positions begin") {
    std::mt19937 engine(5);
    const auto below = [&](index n) { return static_cast<index>(engine() % static_cast<unsigned>(n)); };
    for_each_step([&](auto step) {
        for (int round = 0; round < 60; ++round) {
            const attention_segment s{below(50), below(3 * step + 40), below(100), below(50), 1 + below(3 * step + 40), below(100), 3, 1003};
            index queries = 0;
            std::set<index> met;
            for (index r = 0; r < step; ++r) {
                const attention_segment of_keys = hopper::segment_of_class<step, false>(s, r);
                CHECK(of_keys.key_begin == s.key_begin + r);
                CHECK(of_keys.key_count == hopper::row_classes<step>{s.key_count}.rows(r));
                const index of = of_keys.query_begin - s.query_begin;
                REQUIRE(of >= 0);
                REQUIRE(of < step);
                met.insert(of), queries += of_keys.query_count;
                const attention_segment of_queries = hopper::segment_of_class<step, true>(s, of);
                CHECK(of_queries.key_begin == of_keys.key_begin);
                CHECK(of_queries.query_position == of_keys.query_position);
                CHECK(of_queries.query_count == of_keys.query_count);
                CHECK((of_keys.ordinal == 3 && of_keys.document == 1003));
                // Row i of either side is the true position, once the remainder is added.
                const index remainder = s.key_position + r - of_keys.key_position * step;
                CHECK((remainder >= 0 && remainder < step));
                CHECK(of_keys.query_position * step + remainder == s.query_position + of);
            }
            CHECK(met.size() == static_cast<std::size_t>(step));
            CHECK(queries == s.query_count);
        }
    });
}

/// Every pair of rows that a walk over all blocks of all classes finds live, counted.
template <class P, bool Forward>
std::vector<int> met_pairs(const attention_segment& whole, index rows, index columns) {
    using inner = longspan::by_remainder<P>;
    constexpr int step = longspan::step_of<inner>, own_tile = 16, other_tile = 8;
    std::vector<int> met(static_cast<std::size_t>(rows * columns));
    const index own_count = Forward ? whole.query_count : whole.key_count;
    if (own_count == 0) return met;
    const hopper::class_blocks<step, own_tile> blocks(own_count);
    for (unsigned v = 0; v < blocks.all; ++v) {
        const attention_segment s = hopper::segment_of_class<step, Forward>(whole, blocks.class_of(v));
        const longspan::interval queries{s.query_position, s.query_position + s.query_count}, keys{s.key_position, s.key_position + s.key_count};
        const longspan::interval all = Forward ? queries : keys, others = Forward ? keys : queries;
        const index first = index{blocks.number_of(v)} * own_tile;
        const longspan::interval own = longspan::overlap({all.begin + first, all.begin + first + own_tile}, all);
        auto walk = longspan::runs_from<inner, Forward, int>({}, 0, own, others, other_tile);
        for (longspan::tile_run run; walk.next(run);) {
            for (index other = others.begin + run.first * other_tile; other < std::min(others.end, others.begin + run.last * other_tile); ++other) {
                for (index mine = own.begin; mine < own.end; ++mine) {
                    const index q = Forward ? mine : other, k = Forward ? other : mine;
                    const bool seen = run.kind == longspan::tile_class::full || inner::contains({}, 0, q, k);
                    const index row = s.query_begin + (q - s.query_position) * step, column = s.key_begin + (k - s.key_position) * step;
                    if (seen) ++met[static_cast<std::size_t>(row * columns + column)];
                }
            }
        }
    }
    return met;
}

TEST_CASE("remainders: walks over all classes meet every pair that a comb shows, once, wherever positions begin") {
    using longspan::causal_pattern, longspan::both, longspan::strided_pattern, longspan::window_pattern;
    std::mt19937 engine(7);
    const auto below = [&](index n) { return static_cast<index>(engine() % static_cast<unsigned>(n)); };
    const auto check = [&]<class P>(P) {
        for (int round = 0; round < 12; ++round) {
            const attention_segment s{below(9), below(150), below(120), below(9), below(150), below(120), 0, 0};
            const index rows = s.query_begin + s.query_count, columns = s.key_begin + s.key_count;
            std::vector<int> truth(static_cast<std::size_t>(rows * columns));
            for (index q = 0; q < s.query_count; ++q) {
                for (index k = 0; k < s.key_count; ++k) {
                    const auto at = static_cast<std::size_t>((s.query_begin + q) * columns + s.key_begin + k);
                    truth[at] = P::contains({}, 0, s.query_position + q, s.key_position + k);
                }
            }
            CHECK(met_pairs<P, true>(s, rows, columns) == truth);
            CHECK(met_pairs<P, false>(s, rows, columns) == truth);
        }
    };
    check(both<causal_pattern, strided_pattern<3>>{});
    check(both<causal_pattern, both<window_pattern<30>, strided_pattern<2>>>{});
    check(both<window_pattern<57>, strided_pattern<8>>{});
    check(both<window_pattern<3>, strided_pattern<8>>{});
    check(strided_pattern<61>{});
}

// Thread blocks that take tickets as they come, each walking its own in order and waiting, at each block, until the block of its class that
// adds before it is done: all come to an end, whoever is slow.
TEST_CASE("remainders: blocks that wait for those which add before them all come to an end") {
    std::mt19937 engine(9);
    for_each_step([&](auto step) {
        for (const bool rising : {false, true}) {
            for (const index n : lengths_for(step)) {
                for (const unsigned takers : {1u, 2u, 7u, 132u}) {
                    const hopper::class_blocks<step, block> blocks(n);
                    std::vector<bool> done(blocks.all);
                    std::vector<std::deque<unsigned>> own(takers);
                    unsigned ticket = 0, left = blocks.all;
                    while (left > 0) {
                        bool moved = false;
                        const unsigned from = static_cast<unsigned>(engine()) % takers;
                        for (unsigned i = 0; i < takers; ++i) {
                            std::deque<unsigned>& mine = own[(from + i) % takers];
                            if (mine.empty() && ticket < blocks.listed) {
                                const unsigned b = rising ? ticket : blocks.listed - 1 - ticket;
                                ++ticket;
                                for (unsigned v = blocks.begin(b); v < blocks.begin(b + 1); ++v) rising ? mine.push_back(v) : mine.push_front(v);
                                moved = true;
                            }
                            if (mine.empty()) continue;
                            const unsigned v = mine.front();
                            const unsigned before = rising ? v - blocks.classes : v + blocks.classes;  // wraps below 0
                            if (before >= blocks.all || done[before]) done[v] = true, mine.pop_front(), --left, moved = true;
                        }
                        REQUIRE(moved);
                    }
                }
            }
        }
    });
}
