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

#include <utility>

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Which of QueryBlocks × KeyBlocks blocks of Block × Block positions are seen.
template <index Block, index QueryBlocks, index KeyBlocks = QueryBlocks>
struct block_map {
    static_assert(Block >= 1, "block_map<B, Q, K>: a block holds at least 1 position, so B is at least 1");
    static_assert(QueryBlocks >= 1 && KeyBlocks >= 1, "block_map<B, Q, K>: a map has at least 1 × 1 block, so Q and K are at least 1");
    static constexpr index block = Block;
    static constexpr index query_blocks = QueryBlocks;
    static constexpr index key_blocks = KeyBlocks;

    static constexpr index word_count = (QueryBlocks * KeyBlocks + 31) / 32;

    std::uint32_t words[word_count]{};  ///< bit q·KeyBlocks + k
};

/// The map of `sees(query block, key block)`.
template <index Block, index QueryBlocks, index KeyBlocks = QueryBlocks, class Sees>
    requires std::is_invocable_r_v<bool, Sees, index, index>
[[nodiscard]] consteval block_map<Block, QueryBlocks, KeyBlocks> block_map_of(Sees sees) {
    block_map<Block, QueryBlocks, KeyBlocks> map{};
    for (index q = 0; q < QueryBlocks; ++q) {
        for (index k = 0; k < KeyBlocks; ++k) {
            if (sees(q, k)) map.words[(q * KeyBlocks + k) / 32] |= 1u << ((q * KeyBlocks + k) % 32);
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

/// The map's bits are integers of the type: nvcc 13.0 passes neither objects nor `auto` through a kernel's template arguments.
/// So a symbol grows by 12 characters per 32 blocks; maps beyond some 64 × 64 blocks are better run-time lists (block_list).
template <index Block, index QueryBlocks, index KeyBlocks, std::uint32_t... Words>
struct blocks_pattern {
    using arguments = no_arguments;

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(no_arguments, index, index query, index key) {
        return sees(query / Block, key / Block);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto keys(no_arguments, index, interval queries) {
        return detail::blocks_seen<(KeyBlocks + 1) / 2>(queries, Block, QueryBlocks, KeyBlocks, [](index q, index k) { return sees(q, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr auto queries(no_arguments, index, interval keys) {
        return detail::blocks_seen<(QueryBlocks + 1) / 2>(keys, Block, KeyBlocks, QueryBlocks, [](index k, index q) { return sees(q, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(no_arguments, index, index query, index first_key) {
        return detail::block_bits(first_key, Block, [query](index k) { return sees(query / Block, k); });
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(no_arguments, index, index key, index first_query) {
        return detail::block_bits(first_query, Block, [key](index q) { return sees(q, key / Block); });
    }

private:
    LONGSPAN_HD static constexpr bool sees(index query_block, index key_block) {
        if (query_block < 0 || query_block >= QueryBlocks || key_block < 0 || key_block >= KeyBlocks) return false;
        constexpr std::uint32_t words[]{Words...};  // local: device code may not read a static array of the host
        const index bit = query_block * KeyBlocks + key_block;
        return ((words[bit / 32] >> (bit % 32)) & 1u) != 0;
    }
};

namespace detail {

template <auto Map>
consteval auto blocks_of() {
    using map = std::remove_cvref_t<decltype(Map)>;
    static_assert(is_block_map<map>, "blocks<map>: the map is an ls::block_map, as ls::block_map_of<B, Q, K>(sees) makes them");
    if constexpr (is_block_map<map>) {
        return []<std::size_t... I>(std::index_sequence<I...>) {
            return blocks_pattern<map::block, map::query_blocks, map::key_blocks, Map.words[I]...>{};
        }(std::make_index_sequence<static_cast<std::size_t>(map::word_count)>{});
    } else {
        return blocks_pattern<1, 1, 1, 1u>{};  // so that the sentence above is all that is printed
    }
}

}  // namespace detail

template <auto Map>
inline constexpr auto blocks = detail::blocks_of<Map>();

}  // namespace longspan
