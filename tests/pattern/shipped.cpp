// SPDX-License-Identifier: Apache-2.0
//
// The patterns that people train with: at tiles of 64 and 128 no tile is visited or tested without need, over one document of an
// odd length and over many. What combs cost is printed.
#include <doctest/doctest.h>

#include <string>
#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/documents.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

#include "brute_force.hpp"

namespace ls = longspan;
using ls::index;
using ls::checker::check_batch;
using ls::checker::tally;
using ls::checker::truth_of;

namespace {

template <auto Pattern>
void check_shipped(const char* name, const ls::piece_list& batch, const ls::prefix_lengths& prefixes) {
    using P = ls::pattern_of<Pattern>;
    typename P::arguments a{};
    if constexpr (std::is_same_v<typename P::arguments, ls::prefix_lengths>) a = prefixes;
    const auto truth = truth_of<P>(a, batch);
    for (index tile : {64, 128}) {
        const tally result = check_batch<P>(a, batch, truth, tile, tile);
        CAPTURE(name);
        CAPTURE(batch.count);
        CAPTURE(tile);
        CHECK(result.unsound == 0);
        CHECK(result.disorder == 0);
        CHECK(result.empty_visited == 0);
        CHECK(result.full_tested == 0);
        CHECK(result.live > 0);
    }
}

constexpr auto longformer = ls::window<1024> | ls::global<64>;

void check_all_shipped(const ls::piece_list& batch, const ls::prefix_lengths& prefixes) {
    check_shipped<ls::full>("full", batch, prefixes);
    check_shipped<ls::causal>("causal", batch, prefixes);
    check_shipped<ls::window<1024>>("window 1024", batch, prefixes);
    check_shipped<ls::causal & ls::window<1024>>("causal & window 1024", batch, prefixes);
    check_shipped<ls::causal & (ls::window<1024> | ls::first<64>)>("causal & (window 1024 | first 64)", batch, prefixes);
    check_shipped<ls::causal & (ls::window<1000> | ls::first<30>)>("causal & (window 1000 | first 30)", batch, prefixes);
    check_shipped<longformer>("window 1024 | global 64", batch, prefixes);
    check_shipped<ls::causal & longformer>("causal & (window 1024 | global 64)", batch, prefixes);
    check_shipped<ls::causal | ls::prefix>("causal | prefix", batch, prefixes);
}

}  // namespace

TEST_CASE("shipped: no slack in the shipped patterns at tiles of 64 and 128") {
    const std::vector<index> prefixes{100, 0, 700, 33, 64, 5000};
    const std::vector<ls::piece> one{{0, 0, 0}};
    check_all_shipped({one.data(), 1, 1503}, {prefixes.data()});
    const std::vector<ls::piece> many{{0, 0, 0}, {1, 0, 37}, {2, 0, 37}, {3, 0, 1300}, {4, 0, 1408}, {5, 0, 1471}};
    check_all_shipped({many.data(), 6, 1600}, {prefixes.data()});
}

// The cost of patterns whose teeth lie closer than a tile: printed, not asserted.
TEST_CASE("shipped: slack of dilated and strided patterns at tiles of 64") {
    const std::vector<ls::piece> pieces{{0, 0, 0}, {1, 0, 700}};
    const ls::piece_list batch{pieces.data(), 2, 1500};
    const auto report = [&]<class P>(const std::string& name, P) {
        const tally result = check_batch<P>({}, batch, truth_of<P>({}, batch), 64, 64);
        CHECK(result.sound());
        MESSAGE(name, ": ", result.live, " live tiles of ", result.tiles, ", ", result.empty_visited, " empty ones visited, ", result.full_tested,
                " full ones tested");
    };
    report("causal & dilated_window<128, 4>", ls::causal & ls::dilated_window<128, 4>);
    report("causal & (window<128> | strided<128>)", ls::causal & (ls::window<128> | ls::strided<128>));
}
