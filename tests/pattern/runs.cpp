// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/runs.hpp>

#include <doctest/doctest.h>

#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

#include "checker.hpp"

namespace ls = longspan;

namespace {

constexpr auto local = ls::causal & (ls::window<20> | ls::first<5>);

template <class P>
std::vector<ls::tile_run> key_runs_of(ls::interval queries, ls::interval range, ls::index tile) {
    std::vector<ls::tile_run> runs;
    ls::for_each_run<P>({}, 0, queries, range, tile, [&](ls::tile_run run) { runs.push_back(run); });
    return runs;
}

template <class P>
std::vector<ls::tile_run> query_runs_of(ls::interval keys, ls::interval range, ls::index tile) {
    std::vector<ls::tile_run> runs;
    ls::for_each_query_run<P>({}, 0, keys, range, tile, [&](ls::tile_run run) { runs.push_back(run); });
    return runs;
}

}  // namespace

TEST_CASE("runs: the tiles of causal & (window | first), by hand") {
    using p = ls::pattern_of<local>;
    using runs = std::vector<ls::tile_run>;
    constexpr auto partial = ls::tile_class::partial, full = ls::tile_class::full;
    // Queries [64, 72) see keys [0, 5) and [45, 72); all of them see [0, 5) and [52, 65).
    CHECK(key_runs_of<p>({64, 72}, {0, 100}, 4) == runs{{0, 1, full}, {1, 2, partial}, {11, 13, partial}, {13, 16, full}, {16, 18, partial}});
    CHECK(key_runs_of<p>({64, 72}, {0, 66}, 4) == runs{{0, 1, full}, {1, 2, partial}, {11, 13, partial}, {13, 16, full}, {16, 17, partial}});
    CHECK(key_runs_of<p>({64, 72}, {6, 44}, 4).empty());
    CHECK(key_runs_of<p>({64, 72}, {6, 6}, 4).empty());
    CHECK(key_runs_of<p>({64, 64}, {0, 100}, 4).empty());
    // Keys [0, 8) are seen by all from 7 to 24, the first five for ever.
    CHECK(query_runs_of<p>({0, 8}, {0, 60}, 4) == runs{{0, 2, partial}, {2, 6, full}, {6, 15, partial}});
}

TEST_CASE("runs: every range, tile and offset against brute force, both ways") {
    using p = ls::pattern_of<local>;
    ls::checker::tally total;
    for (ls::index tile : {1, 3, 8, 13}) {
        for (ls::index begin = 0; begin < 60; begin += 7) {
            for (ls::index length : {1, 5, 16}) {
                for (ls::index from : {0, 4, 31}) {
                    const ls::interval own{begin, begin + length}, range{from, 70};
                    const ls::index tiles = ls::ceil_div(range.length(), tile);
                    const auto extent = [&](ls::index i) { return ls::overlap({from + i * tile, from + (i + 1) * tile}, range); };
                    const auto size = [&](ls::index i) { return extent(i).length() * own.length(); };
                    const auto seen = [&](ls::index i, bool forward) {
                        ls::index count = 0;
                        for (ls::index x = own.begin; x < own.end; ++x) {
                            for (ls::index y = extent(i).begin; y < extent(i).end; ++y) {
                                count += (forward ? p::contains({}, 0, x, y) : p::contains({}, 0, y, x)) ? 1 : 0;
                            }
                        }
                        return count;
                    };
                    total += ls::checker::check_runs(key_runs_of<p>(own, range, tile), tiles, [&](ls::index i) { return seen(i, true); }, size);
                    total += ls::checker::check_runs(query_runs_of<p>(own, range, tile), tiles, [&](ls::index i) { return seen(i, false); }, size);
                }
            }
        }
    }
    CHECK(total.tiles > 7000);
    CHECK(total.tight());
}

TEST_CASE("runs: a tile row at four million tokens costs its runs, not its length") {
    const ls::index far = 4'000'000;
    using p = ls::pattern_of<ls::causal & (ls::window<1024> | ls::first<64>)>;
    int runs = 0;
    ls::for_each_run<p>({}, 0, {far, far + 64}, {0, far + 64}, 64, [&](ls::tile_run) { ++runs; });
    CHECK(runs == 4);  // the first keys, the window's ragged edge, its middle, the diagonal
}

TEST_CASE("runs: forward and backward name the same tiles") {
    using p = ls::pattern_of<(ls::causal & ls::window<20>) | ls::global<5>>;
    constexpr ls::index tokens = 131;
    for (ls::index tile : {4, 7, 16, 64}) {
        const ls::index tiles = ls::ceil_div(tokens, tile);
        const auto cut = [&](ls::index i) { return ls::overlap({i * tile, (i + 1) * tile}, {0, tokens}); };
        const auto at = [&](ls::index q, ls::index k) { return static_cast<std::size_t>(q * tiles + k); };
        std::vector<ls::tile_class> forward(static_cast<std::size_t>(tiles * tiles)), backward(forward);
        for (ls::index i = 0; i < tiles; ++i) {
            for (const ls::tile_run& run : key_runs_of<p>(cut(i), {0, tokens}, tile)) {
                for (ls::index k = run.first; k < run.last; ++k) forward[at(i, k)] = run.kind;
            }
            for (const ls::tile_run& run : query_runs_of<p>(cut(i), {0, tokens}, tile)) {
                for (ls::index q = run.first; q < run.last; ++q) backward[at(q, i)] = run.kind;
            }
        }
        CHECK(forward == backward);
    }
}
