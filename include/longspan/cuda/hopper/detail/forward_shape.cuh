// SPDX-License-Identifier: Apache-2.0
//
// What the roles of Hopper's forward share: sizes of tiles, where things lie in shared memory, and the call.
#pragma once

#include <longspan/cuda/hopper/detail/mask_words.cuh>
#include <longspan/cuda/hopper/detail/remainders.hpp>
#include <longspan/cuda/hopper/detail/swizzled_tile.cuh>
#include <longspan/cuda/hopper/detail/tensor_map.cuh>
#include <longspan/cuda/hopper/detail/work.cuh>
#include <longspan/cuda/pipeline/ring.cuh>
#include <longspan/cuda/pipeline/roles.hpp>
#include <longspan/cuda/ptx/elect.cuh>
#include <longspan/cuda/ptx/named_barrier.cuh>
#include <longspan/cuda/ptx/setmaxnreg.cuh>
#include <longspan/cuda/ptx/shared.cuh>
#include <longspan/cuda/ptx/stmatrix.cuh>
#include <longspan/cuda/ptx/tma.cuh>
#include <longspan/cuda/ptx/wgmma.cuh>
#include <longspan/pattern/comb.hpp>

namespace longspan::cuda::hopper::detail {

using longspan::cuda::detail::score_numbers, longspan::cuda::detail::store_pair;

/// The pattern that tiles are walked by: a comb's remainders one after another (hopper/detail/remainders.hpp), unless dropout draws numbers
/// for sixteen positions in a row.
template <class Pattern, class Score>
using walked_pattern = std::conditional_t<Score::dropout, Pattern, by_remainder<Pattern>>;

template <class Pattern, int HeadDim, bool Dropout>
struct forward_shape {
    // Narrow heads spend as long on exponentials as on products: a third warpgroup keeps both busy, unless numbers have to be drawn, for
    // which it leaves too few registers.
    static constexpr int groups = HeadDim == 64 && !Dropout ? 3 : 2, queries = 64 * groups;  ///< warpgroups that multiply, and their queries
    static constexpr int keys = HeadDim == 256 ? 64 : 128;      ///< of a tile: wide heads leave registers for 64
    // Dropout draws eight batches a tile: a warp each where heads are narrow and tiles short; wider heads gain nothing from more than four.
    static constexpr int mover_groups = Dropout && HeadDim == 64 ? 2 : 1;  ///< the first warpgroup, and one behind those that multiply
    static constexpr int threads = 128 * (groups + mover_groups), slots = 2;
    static constexpr int query_slots = HeadDim == 256 ? 1 : 2;  ///< the next block's queries arrive while this one's are in use
    // Where it takes long to find out what a block sees, a warp of its own does, some tiles before the one that copies; beside three
    // warpgroups that multiply it has too few registers.
    static constexpr bool walks_ahead = !Dropout && groups == 2 && (listed_pattern<Pattern> || key_capacity<Pattern> > 1);
    static constexpr int markers = 4 * mover_groups - 1 - walks_ahead;  ///< warps that make masks
    static constexpr int drawers = Dropout ? markers + 1 : 0;   ///< that draw dropout's numbers: the copying warp is the last of them
    static constexpr int mover_registers = groups == 3 ? 32 : mover_groups == 2 ? 48 : 56;
    static constexpr int registers = groups == 3 ? 160 : mover_groups == 2 ? 208 : 224;
    static_assert(pipeline::registers_suffice(mover_registers, groups, registers, mover_groups));
};

/// A block of queries of one head, as all warps see it; no head: the end.
struct query_block {
    attention_segment s;  ///< of one remainder where a comb is walked
    index first_row;      ///< of its queries within the segment's
    int live_rows, head;
};

template <class Pattern, int HeadDim, bool Dropout>
struct forward_memory {
    using shape = forward_shape<Pattern, HeadDim, Dropout>;
    using query_tile = swizzled_tile<64, HeadDim>;
    using key_tile = swizzled_tile<shape::keys, HeadDim>;
    using masks = mask_words<shape::queries, shape::keys>;
    using drops = kept_rows<shape::queries, shape::keys>;
    using work_ring = pipeline::ring<shape::walks_ahead ? 2 : shape::query_slots>;  ///< blocks that are known, with queries or without yet
    using tile_ring = pipeline::ring<shape::slots>;
    using walk_ring = pipeline::ring<8>;  ///< entries that were walked and are not copied yet
    static constexpr int queries_size = shape::groups * query_tile::size;
    static constexpr int queries = 0, keys = shape::query_slots * queries_size, values = keys + shape::slots * key_tile::size;
    static constexpr int seen = values + shape::slots * key_tile::size, kept = seen + shape::slots * masks::size;
    static constexpr int key_full = kept + (Dropout ? shape::slots * drops::size : 0), value_full = key_full + tile_ring::size;
    static constexpr int entry_full = value_full + tile_ring::size, work_full = entry_full + tile_ring::size;
    static constexpr int walk_full = work_full + work_ring::size, ragged = walk_full + (shape::walks_ahead ? walk_ring::size : 0);
    static constexpr int tiles = ragged + 8, walked = tiles + 4 * shape::slots, blocks = walked + (shape::walks_ahead ? 4 * walk_ring::slots : 0);
    static constexpr int size = blocks + work_ring::slots * int{sizeof(query_block)};
    static_assert(blocks % 8 == 0 && seen % 16 == 0);
    static_assert(size <= 232448, "a thread block has 227 KiB of shared memory");

    __device__ static constexpr std::uint32_t query_slot(std::uint32_t base, int slot, int group) {
        return base + static_cast<std::uint32_t>(queries + (shape::walks_ahead ? slot % shape::query_slots : slot) * queries_size + group * query_tile::size);
    }
    __device__ static constexpr std::uint32_t key_slot(std::uint32_t base, int slot) { return base + static_cast<std::uint32_t>(keys + slot * key_tile::size); }
    __device__ static constexpr std::uint32_t value_slot(std::uint32_t base, int slot) { return base + static_cast<std::uint32_t>(values + slot * key_tile::size); }
    __device__ static constexpr masks seen_in(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(seen + slot * masks::size)}; }
    __device__ static constexpr drops kept_in(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(kept + slot * drops::size)}; }
};

/// One call's arguments.
template <class O, class Pattern>
struct forward_call {
    row_maps<step_of<Pattern>> queries, keys, values;
    O* out;
    index out_stride;
    statistic_view<float> lse;
    const attention_segment* segments;
    work_order work;
    pattern_values<typename Pattern::arguments> arguments;
    score_numbers numbers;
    int group;
    bool merge;
};

/// What a slot holds: a tile's number and whether its elements are tested; `no_tile` behind the last.
inline constexpr int no_tile = -1, tested_tile = 1 << 30;

/// Rows [live, Rows) of a tile become 0, by one warp.
template <int Rows, int Columns>
__device__ __forceinline__ void clear_rows(const swizzled_tile<Rows, Columns>& tile, int live) {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    for (int i = lane; i < (Rows - live) * (Columns / 8); i += 32) {
        const int row = live + i / (Columns / 8), column = i % (Columns / 8) * 8;
        ptx::store(tile.base + swizzled_tile<Rows, Columns>::offset(row, column), make_uint4(0, 0, 0, 0));
    }
}

}  // namespace longspan::cuda::hopper::detail
