// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/documents.hpp>

#include <doctest/doctest.h>

#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace ls = longspan;

namespace {

// Three documents with an empty piece between them; the last one continues from position 30.
const std::vector<ls::piece> pieces{{7, 0, 0}, {8, 0, 10}, {9, 0, 10}, {4, 30, 25}};
const ls::piece_table table{pieces, 40};

using causal = ls::pattern_of<ls::causal>;

template <class P>
std::vector<ls::tile_run> runs_of(ls::interval queries, ls::index tile, const typename P::arguments& a = {}) {
    std::vector<ls::tile_run> runs;
    ls::for_each_run<P>(a, table, queries, tile, [&](ls::tile_run run) { runs.push_back(run); });
    return runs;
}

}  // namespace

TEST_CASE("documents: the piece of a token") {
    const ls::piece_list batch = table;
    for (ls::index t = 0; t < 40; ++t) {
        CHECK(batch.piece_of(t) == (t < 10 ? 0 : t < 25 ? 2 : 3));
        CHECK(batch.extent(batch.piece_of(t)).begin <= t);
        CHECK(t < batch.extent(batch.piece_of(t)).end);
    }
    CHECK(batch.shift(3) == 5);
}

TEST_CASE("documents: tiles over several documents") {
    using runs = std::vector<ls::tile_run>;
    constexpr auto partial = ls::tile_class::partial, full = ls::tile_class::full;
    CHECK(runs_of<causal>({16, 24}, 8) == runs{{1, 3, partial}});
    CHECK(runs_of<causal>({24, 32}, 8) == runs{{1, 4, partial}});  // the end of one document, the beginning of the next
    CHECK(runs_of<causal>({0, 40}, 8) == runs{{0, 5, partial}});
    CHECK(runs_of<causal>({32, 40}, 4) == runs{{6, 7, partial}, {7, 8, full}, {8, 10, partial}});
    CHECK(runs_of<causal>({40, 48}, 8).empty());
    CHECK(ls::classify<causal>({}, ls::piece_list(table), {32, 40}, {25, 33}) == full);
    CHECK(ls::classify<causal>({}, ls::piece_list(table), {32, 40}, {24, 33}) == partial);
    CHECK(ls::classify<causal>({}, ls::piece_list(table), {32, 40}, {0, 25}) == ls::tile_class::empty);
}

TEST_CASE("documents: positions are those of the document, arguments those of the piece") {
    // Keys before position 32 are tokens 25 and 26 of the last piece.
    CHECK(ls::contains<ls::pattern_of<ls::first<32>>>({}, table, 39, 26));
    CHECK_FALSE(ls::contains<ls::pattern_of<ls::first<32>>>({}, table, 39, 27));
    CHECK_FALSE(ls::contains<ls::pattern_of<ls::first<32>>>({}, table, 39, 24));
    const std::vector<ls::index> prefix{0, 0, 3, 31};
    CHECK(ls::key_bits<ls::pattern_of<ls::prefix>>({prefix.data()}, table, 20, 8) == 0b11100u);
    CHECK(ls::key_bits<ls::pattern_of<ls::prefix>>({prefix.data()}, table, 30, 8) == 1u << 17);
    CHECK(ls::query_bits<ls::pattern_of<ls::prefix>>({prefix.data()}, table, 11, 0) == 0x1fffc00u);
    CHECK(ls::query_bits<ls::pattern_of<ls::prefix>>({prefix.data()}, table, 13, 0) == 0u);
}

TEST_CASE("documents: evaluated by the compiler too") {
    constexpr int live = [] {
        constexpr ls::piece two[]{{0, 0, 0}, {1, 0, 6}};
        int tiles = 0;
        ls::for_each_query_run<causal>({}, ls::piece_list{two, 2, 16}, {4, 8}, 4, [&](ls::tile_run run) { tiles += static_cast<int>(run.last - run.first); });
        return tiles;
    }();
    CHECK(live == 3);
}
