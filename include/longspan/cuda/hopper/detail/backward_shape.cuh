// SPDX-License-Identifier: Apache-2.0
//
// What the roles of Hopper's backward share: sizes of tiles, where things lie in shared memory, the call, and the walk over tiles.
#pragma once

#include <longspan/cuda/detail/attention_order.cuh>
#include <longspan/cuda/hopper/detail/forward_kernel.cuh>

namespace longspan::cuda::hopper::detail {

using longspan::cuda::detail::run_list, longspan::cuda::detail::run_place;

template <int HeadDim>
struct backward_shape {
    static constexpr int groups = 2, keys = 64 * groups, queries = HeadDim == 64 ? 128 : 64;
    static constexpr int threads = 128 * (groups + 1), slots = 2;
    static constexpr int mover_registers = 56, registers = 224;
    static_assert(pipeline::registers_suffice(mover_registers, groups, registers));
    // A warpgroup's part of dQ: 64 queries × 64 columns.
    static constexpr int halves = HeadDim / 64;
    static_assert(queries / 64 * halves == groups, "each warpgroup makes one part of dQ");
};

/// A block of keys, as all its warps see it.
struct key_block {
    attention_segment s;
    index first_row;  ///< of its keys within the segment's
    int number, live_keys, key_head;
};

template <int HeadDim, int Capacity>
struct backward_memory {
    using shape = backward_shape<HeadDim>;
    using key_tile = swizzled_tile<shape::keys, HeadDim>;
    using query_tile = swizzled_tile<shape::queries, HeadDim>;
    using map_tile = swizzled_tile<shape::keys, shape::queries>;
    static constexpr int part = 64 * 64 * 4;  ///< of dQ
    static constexpr int keys = 0, values = keys + key_tile::size, queries = values + key_tile::size;
    static constexpr int d_out = queries + shape::slots * query_tile::size, map = d_out + shape::slots * query_tile::size;
    static constexpr int maps = 2, dq = map + maps * map_tile::size, statistics = dq + shape::groups * part;
    static constexpr int statistics_slot = shape::queries * 8;
    static constexpr int query_ring = statistics + shape::slots * statistics_slot, d_out_ring = query_ring + pipeline::ring<shape::slots>::size;
    static constexpr int dq_ring = d_out_ring + pipeline::ring<shape::slots>::size, keys_full = dq_ring + pipeline::ring<1>::size;
    static constexpr int ragged = keys_full + 8, ticket = ragged + 8, block = ticket + 8, runs = block + int{sizeof(key_block)};
    static constexpr int above = runs + int{sizeof(run_list<Capacity>)}, size = above + int{sizeof(run_list<Capacity>)};
    static_assert(size <= 232448, "a thread block has 227 KiB of shared memory");
};

/// One call's arguments.
template <class D, class Arguments>
struct backward_call {
    CUtensorMap queries, keys, values, d_out;
    D *dk, *dv;
    index dk_stride, dv_stride;
    const float2* statistics;  ///< [heads][query_tokens]: log-sum-exp in base 2 (+∞ where nothing was seen), delta
    float* dq_sums;            ///< [heads][halves][query_tokens][64], 16-byte units of a row in an order of their own
    std::int32_t* marks;       ///< [heads][query_tokens], of the first row of each tile of queries: who added last
    unsigned* counter;         ///< of blocks of keys handed out
    index query_tokens;
    const attention_segment* segments;
    const attention_block* key_blocks;
    pattern_values<Arguments> arguments;
    score_numbers numbers;
    int group;
    bool add_keys;
};

/// Visits the tiles of queries of every head of the group, in order: f(tile, head, partial).
template <int Capacity, class F>
__device__ __forceinline__ void for_each_tile(const run_list<Capacity>& runs, int first_head, int heads, const F& f) {
    for (int head = first_head; head < first_head + heads; ++head) {
        for (auto at = run_place<Capacity>::begin(runs); at.live; at.advance(runs)) f(at.tile, head, at.partial);
    }
}

}  // namespace longspan::cuda::hopper::detail
