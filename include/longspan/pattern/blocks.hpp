// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention from a map known at compile time: query q sees key k if the map holds (⌊q / B⌋, ⌊k / B⌋). Positions
// beyond the map see nothing and are seen by none, so a map covers the longest document.
//
//     constexpr auto map = ls::block_map_of<64, 32>([](ls::index q, ls::index k) { return k == 0 || q - k <= 2; });
//     constexpr auto attention = ls::causal & ls::blocks<map>;
//
// Memory: a bit per block of the map, in the constants of the program; ⌈blocks / 2⌉ intervals at most. Exact in both directions.
// Reference: Zaheer et al., "Big Bird", arXiv:2007.14062.
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Which of QueryBlocks × KeyBlocks blocks of Block × Block positions are seen. A plain aggregate, so that it can be a template
/// argument.
template <index Block, index QueryBlocks, index KeyBlocks = QueryBlocks>
struct block_map {
    static_assert(Block >= 1, "block_map<B, Q, K>: a block holds at least 1 position, so B is at least 1");
    static_assert(QueryBlocks >= 1 && KeyBlocks >= 1, "block_map<B, Q, K>: a map has at least 1 × 1 block, so Q and K are at least 1");
    static constexpr index block = Block;
    static constexpr index query_blocks = QueryBlocks;
    static constexpr index key_blocks = KeyBlocks;

    std::uint32_t words[QueryBlocks][(KeyBlocks + 31) / 32]{};

    LONGSPAN_HD [[nodiscard]] constexpr bool sees(index query_block, index key_block) const {
        return query_block >= 0 && query_block < QueryBlocks && key_block >= 0 && key_block < KeyBlocks &&
               ((words[query_block][key_block / 32] >> (key_block % 32)) & 1u) != 0;
    }
};

/// The map of `sees(query block, key block)`.
template <index Block, index QueryBlocks, index KeyBlocks = QueryBlocks, class Sees>
    requires std::is_invocable_r_v<bool, Sees, index, index>
[[nodiscard]] consteval block_map<Block, QueryBlocks, KeyBlocks> block_map_of(Sees sees) {
    block_map<Block, QueryBlocks, KeyBlocks> map{};
    for (index q = 0; q < QueryBlocks; ++q) {
        for (index k = 0; k < KeyBlocks; ++k) {
            if (sees(q, k)) map.words[q][k / 32] |= 1u << (k % 32);
        }
    }
    return map;
}

namespace detail {

template <class T>
inline constexpr bool is_block_map = false;
template <index B, index Q, index K>
inline constexpr bool is_block_map<block_map<B, Q, K>> = true;

/// What any and all of the blocks under `run` see among `count` blocks of the other side; `sees(own block, other block)`.
template <int Capacity, class Sees>
LONGSPAN_HD constexpr any_all<Capacity> blocks_seen(interval run, index block, index own_count, index count, const Sees& sees) {
    any_all<Capacity> seen{};
    const index first = run.begin / block, behind = ceil_div(run.end, block);
    const index last = behind < own_count ? behind : own_count;
    for (index other = 0; other < count; ++other) {
        bool by_any = false, by_all = behind <= own_count;
        for (index own = first; own < last; ++own) {
            const bool seen_here = sees(own, other);
            by_any = by_any || seen_here;
            by_all = by_all && seen_here;
        }
        const interval positions{other * block, (other + 1) * block};
        if (by_any) seen.any.append(positions);
        if (by_any && by_all) seen.all.append(positions);
    }
    return seen;
}

/// A mask word of the blocks that its 32 positions lie in; `sees(other block)`.
template <class Sees>
LONGSPAN_HD constexpr std::uint32_t block_bits(index first, index block, const Sees& sees) {
    std::uint32_t bits = 0;
    for (index other = floor_div(first, block); other * block < first + 32; ++other) {
        if (sees(other)) bits |= bits_of({other * block, (other + 1) * block}, first);
    }
    return bits;
}

}  // namespace detail

template <auto Map>
struct blocks_pattern {
    static_assert(detail::is_block_map<std::remove_cvref_t<decltype(Map)>>,
                  "blocks<map>: the map is an ls::block_map<B, Q, K>, as ls::block_map_of<B, Q, K>(sees) makes them");
    using arguments = no_arguments;
    using map = std::remove_cvref_t<decltype(Map)>;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(no_arguments, index, index query, index key) {
        return Map.sees(query / map::block, key / map::block);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(no_arguments, index, interval queries) {
        return detail::blocks_seen<(map::key_blocks + 1) / 2>(queries, map::block, map::query_blocks, map::key_blocks,
                                                              [](index q, index k) { return Map.sees(q, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(no_arguments, index, interval keys) {
        return detail::blocks_seen<(map::query_blocks + 1) / 2>(keys, map::block, map::key_blocks, map::query_blocks,
                                                                [](index k, index q) { return Map.sees(q, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(no_arguments, index, index query, index first_key) {
        return detail::block_bits(first_key, map::block, [query](index k) { return Map.sees(query / map::block, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(no_arguments, index, index key, index first_query) {
        return detail::block_bits(first_query, map::block, [key](index q) { return Map.sees(q, key / map::block); });
    }
};

template <auto Map>
inline constexpr blocks_pattern<Map> blocks{};

}  // namespace longspan
