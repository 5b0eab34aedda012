// SPDX-License-Identifier: Apache-2.0
//
// Tiles of packed batches against brute force: random compositions of every leaf, at odd sizes, over random documents.
#include <doctest/doctest.h>

#include <algorithm>
#include <random>
#include <string>
#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/blocks.hpp>
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

// --- a batch and the run-time values of patterns, drawn at random --------------------------------------------------------
struct layout {
    std::vector<ls::piece> pieces;
    index tokens;
    std::vector<index> prefixes;
    std::vector<index> key_offsets, query_offsets;
    std::vector<std::int32_t> keys, queries;
    index width, block;

    layout(std::mt19937& random, index most_tokens, index most_pieces) {
        const auto below = [&](index n) { return static_cast<index>(random() % static_cast<std::uint32_t>(n)); };
        tokens = 1 + below(most_tokens);
        const index count = 1 + below(most_pieces);
        std::vector<index> begins{0};
        for (index p = 1; p < count; ++p) begins.push_back(below(tokens + 1));
        std::sort(begins.begin(), begins.end());
        for (index p = 0; p < count; ++p) {
            pieces.push_back({p, below(4) == 0 ? below(30) : 0, begins[static_cast<std::size_t>(p)]});
            prefixes.push_back(below(40));
        }
        width = 1 + below(60);
        block = 1 + below(40);
        const index blocks = 1 + below(14), rows = 1 + below(14);
        key_offsets.push_back(0);
        for (index r = 0; r < rows; ++r) {
            for (index k = 0; k < blocks; ++k) {
                if (below(3) == 0) keys.push_back(static_cast<std::int32_t>(k));
            }
            key_offsets.push_back(static_cast<index>(keys.size()));
        }
        query_offsets.resize(static_cast<std::size_t>(blocks + 1));
        queries.resize(keys.size());
        (void)ls::transpose({key_offsets.data(), keys.data(), rows}, blocks, query_offsets.data(), queries.data());
    }
    [[nodiscard]] ls::piece_list batch() const { return {pieces.data(), static_cast<index>(pieces.size()), tokens}; }

    void fill(ls::no_arguments&) const {}
    void fill(ls::window_width& a) const { a.width = width; }
    void fill(ls::prefix_lengths& a) const { a.lengths = prefixes.data(); }
    void fill(ls::block_lists& a) const {
        a = {block, {key_offsets.data(), keys.data(), static_cast<index>(key_offsets.size()) - 1},
             {query_offsets.data(), queries.data(), static_cast<index>(query_offsets.size()) - 1}};
    }
    template <class A, class B>
    void fill(ls::paired_arguments<A, B>& a) const {
        fill(a.left);
        fill(a.right);
    }
};

template <ls::pattern P>
bool words_agree(const typename P::arguments& a, const ls::piece_list& batch, const std::vector<unsigned char>& truth, std::mt19937& random) {
    for (int draw = 0; draw < 12; ++draw) {
        const index own = static_cast<index>(random()) % batch.tokens, first = static_cast<index>(random()) % batch.tokens;
        const std::uint32_t keys = ls::key_bits<P>(a, batch, own, first), queries = ls::query_bits<P>(a, batch, own, first);
        for (index i = 0; i < 32; ++i) {
            const bool inside = first + i < batch.tokens;
            if (((keys >> i) & 1u) != (inside ? truth[static_cast<std::size_t>(own * batch.tokens + first + i)] : 0u)) return false;
            if (((queries >> i) & 1u) != (inside ? truth[static_cast<std::size_t>((first + i) * batch.tokens + own)] : 0u)) return false;
        }
    }
    return true;
}

// --- compositions, drawn by the compiler ---------------------------------------------------------------------------------
constexpr auto map = ls::block_map_of<17, 12, 10>([](index q, index k) { return (q * 5 + k * 3) % 4 == 0 || k == 1; });

constexpr std::uint32_t mixed(std::uint32_t x) {
    x ^= x >> 16, x *= 0x7feb352du, x ^= x >> 15, x *= 0x846ca68bu;
    return x ^ (x >> 16);
}

template <std::uint32_t Seed>
constexpr auto leaf() {
    constexpr std::uint32_t kind = mixed(Seed) % 12;
    constexpr index small = 1 + mixed(Seed + 77) % 9, large = 1 + mixed(Seed + 99) % 70;
    if constexpr (kind <= 1) return ls::causal;
    else if constexpr (kind <= 3) return ls::window<large>;
    else if constexpr (kind == 4) return ls::first<large>;
    else if constexpr (kind == 5) return ls::global<small>;
    else if constexpr (kind == 6) return ls::prefix;
    else if constexpr (kind == 7) return ls::window_up_to;
    else if constexpr (kind == 8) return ls::strided<small>;
    else if constexpr (kind == 9) return ls::dilated_window<small, 1 + mixed(Seed + 5) % 6>;
    else if constexpr (kind == 10) return ls::blocks<map>;
    else return ls::block_list_of<1 + mixed(Seed + 3) % 6>;
}

template <std::uint32_t Seed, int Depth>
constexpr auto composition() {
    if constexpr (Depth == 0) return leaf<Seed>();
    else if constexpr (mixed(Seed + 1000) % 2 == 0) return composition<mixed(Seed), Depth - 1>() & composition<mixed(Seed + 1), Depth - 1>();
    else return composition<mixed(Seed), Depth - 1>() | composition<mixed(Seed + 1), Depth - 1>();
}

template <std::uint32_t Seed>
tally sweep(std::mt19937& random) {
    using P = decltype(composition<mixed(Seed), 1 + static_cast<int>(Seed % 3)>());
    static_assert(ls::pattern<P>);
    tally total;
    for (int round = 0; round < 30; ++round) {
        const layout drawn(random, 260, 6);
        typename P::arguments a{};
        drawn.fill(a);
        REQUIRE(ls::complaint<P>(a, drawn.batch().count) == nullptr);
        const auto truth = truth_of<P>(a, drawn.batch());
        total += check_batch<P>(a, drawn.batch(), truth, 1 + static_cast<index>(random() % 40), 1 + static_cast<index>(random() % 40));
        REQUIRE(words_agree<P>(a, drawn.batch(), truth, random));
    }
    return total;
}

template <std::uint32_t... Seeds>
tally sweep_all(std::integer_sequence<std::uint32_t, Seeds...>) {
    std::mt19937 random(20240607);
    tally total;
    ((total += sweep<Seeds>(random)), ...);
    return total;
}

}  // namespace

TEST_CASE("sweep: random tiles of random compositions over random documents are all sound") {
    const tally total = sweep_all(std::make_integer_sequence<std::uint32_t, 18>{});
    CHECK(total.tiles >= 100000);
    CHECK(total.unsound == 0);
    CHECK(total.disorder == 0);
    const auto percent = [](long part, long whole) { return std::to_string(100.0 * static_cast<double>(part) / static_cast<double>(whole)); };
    MESSAGE(total.tiles, " random tiles, ", total.live, " live, 0 unsound; slack: ", percent(total.empty_visited, total.tiles - total.live),
            " % of empty tiles visited, ", percent(total.full_tested, total.full), " % of full tiles tested");
}
