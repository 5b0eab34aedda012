// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/runs.hpp>

#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
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

namespace {

/// Lists at random, both ways.
struct random_lists {
    std::vector<ls::index> offsets{0}, back_offsets;
    std::vector<std::int32_t> ids, back_ids;
    ls::block_lists lists;

    random_lists(ls::index block, ls::index rows, ls::index columns, double density, unsigned seed) {
        std::mt19937 random(seed);
        for (ls::index r = 0; r < rows; ++r) {
            for (ls::index c = 0; c < columns; ++c) {
                if (r % 7 != 3 && std::bernoulli_distribution(density)(random)) ids.push_back(static_cast<std::int32_t>(c));
            }
            offsets.push_back(static_cast<ls::index>(ids.size()));
        }
        back_offsets.resize(static_cast<std::size_t>(columns + 1)), back_ids.resize(ids.size());
        const ls::block_rows given{offsets.data(), ids.data(), rows};
        lists = {block, given, ls::transpose(given, columns, back_offsets.data(), back_ids.data())};
    }
};

/// Runs from tile `settled` on; those that only a part's end cuts in two are one.
template <class P, bool Forward>
std::vector<ls::tile_run> listed_runs(const typename P::arguments& a, ls::interval own, ls::interval range, ls::index tile, ls::index settled = 0) {
    std::vector<ls::tile_run> runs;
    auto walk = ls::runs_from<P, Forward, int>(a, 0, own, range, tile, settled);
    for (ls::tile_run run; walk.next(run);) {
        if (!runs.empty() && runs.back().last == run.first && runs.back().kind == run.kind) runs.back().last = run.last;
        else runs.push_back(run);
    }
    return runs;
}

/// Tiles of every size against brute force; and whether a tile is live may not depend on where a walk began, nor on who asks.
template <class P, bool Forward>
ls::checker::tally check_listed(const typename P::arguments& a) {
    constexpr ls::index size = 190;
    const auto sees = [&](ls::index own, ls::index other) { return Forward ? P::contains(a, 0, own, other) : P::contains(a, 0, other, own); };
    ls::checker::tally total;
    for (ls::index tile : {1, 3, 8, 13, 64}) {
        for (ls::index begin = 0; begin < size; begin += 17) {
            for (ls::index length : {1, 6, 40}) {
                const ls::interval own{begin, begin + length}, range{5, size};
                const ls::index tiles = ls::ceil_div(range.length(), tile);
                const auto extent = [&](ls::index i) { return ls::overlap({5 + i * tile, 5 + (i + 1) * tile}, range); };
                std::vector<ls::index> seen(static_cast<std::size_t>(tiles));
                for (ls::index i = 0; i < tiles; ++i) {
                    for (ls::index x = own.begin; x < own.end; ++x) {
                        for (ls::index y = extent(i).begin; y < extent(i).end; ++y) seen[static_cast<std::size_t>(i)] += sees(x, y) ? 1 : 0;
                    }
                }
                const auto runs = listed_runs<P, Forward>(a, own, range, tile);
                total += ls::checker::check_runs(runs, tiles, [&](ls::index i) { return seen[static_cast<std::size_t>(i)]; },
                                                 [&](ls::index i) { return extent(i).length() * own.length(); });
                for (ls::index i = 0; i < tiles; ++i) {
                    const auto holds = [i](const ls::tile_run& run) { return run.first <= i && i < run.last; };
                    if (ls::touches<P, Forward>(a, 0, own, extent(i)) != std::ranges::any_of(runs, holds)) ++total.disorder;
                }
                for (ls::index from = 0; from < tiles; from += 3) {
                    const auto later = listed_runs<P, Forward>(a, own, range, tile, from);
                    for (ls::index i = from; i < tiles; ++i) {
                        const auto holds = [i](const ls::tile_run& run) { return run.first <= i && i < run.last; };
                        if (std::ranges::any_of(runs, holds) != std::ranges::any_of(later, holds)) ++total.disorder;
                    }
                }
            }
        }
    }
    return total;
}

}  // namespace

TEST_CASE("runs: lists of blocks, part by part, name every live tile and no other") {
    using listed = ls::pattern_of<ls::block_list>;
    for (const ls::index block : {1, 3, 8, 20}) {
        for (const double density : {0.05, 0.3, 0.9}) {
            const random_lists r(block, 170 / block, 200 / block, density, static_cast<unsigned>(block));
            CAPTURE(block);
            CAPTURE(density);
            REQUIRE(ls::complaint<listed>(r.lists, 1) == nullptr);
            const ls::checker::tally forward = check_listed<listed, true>(r.lists), backward = check_listed<listed, false>(r.lists);
            CHECK((forward.sound() && forward.empty_visited == 0 && forward.live > 100));
            CHECK((backward.sound() && backward.empty_visited == 0 && backward.live > 100));
        }
    }
}
TEST_CASE("runs: compositions with lists of blocks are walked part by part as well") {
    const random_lists r(8, 22, 25, 0.3, 5);
    using cut = ls::pattern_of<ls::causal & ls::block_list>;
    using joined = ls::pattern_of<(ls::causal & ls::window<9>) | ls::block_list>;
    using shown = ls::pattern_of<ls::first<11> | ls::block_list>;
    static_assert(ls::listed_pattern<cut> && ls::listed_pattern<joined> && !ls::listed_pattern<ls::causal_pattern>);
    const ls::checker::tally all[]{check_listed<cut, true>(r.lists), check_listed<cut, false>(r.lists), check_listed<joined, true>(r.lists),
                                   check_listed<joined, false>(r.lists), check_listed<shown, true>(r.lists), check_listed<shown, false>(r.lists)};
    for (const ls::checker::tally& t : all) CHECK((t.sound() && t.live > 100));
}
