// SPDX-License-Identifier: Apache-2.0
//
// What the roles of Hopper's backward share: sizes of tiles, where things lie in shared memory, the call, and the walk over tiles.
#pragma once

#include <longspan/cuda/detail/attention_order.cuh>
#include <longspan/cuda/hopper/detail/forward_shape.cuh>

namespace longspan::cuda::hopper::detail {

using longspan::cuda::detail::run_list;

template <int HeadDim>
struct backward_shape {
    static constexpr bool wide = HeadDim == 256;  ///< see hopper/detail/backward_wide.cuh
    static constexpr int groups = 2, keys = wide ? 64 : 128, queries = HeadDim == 64 ? 128 : 64;
    static constexpr int threads = 128 * (groups + 1);
    static constexpr int slots = 2;    ///< of queries, and of dSᵀ (wide heads: of Pᵀ and dSᵀ)
    static constexpr int d_out_slots = wide ? 1 : 2;
    static constexpr int adders = 2;   ///< warps that add to dQ, tile by tile in turns
    static constexpr int mover_registers = 40, registers = 232;
    static_assert(pipeline::registers_suffice(mover_registers, groups, registers));
    // A warpgroup makes a part of dQ at a time, 64 queries × 64 columns, one after another.
    static constexpr int panels = HeadDim / 64, passes = queries / 64 * panels / groups;
    /// Which part that is: its columns' panel, or its 64 queries where there is one panel.
    LONGSPAN_HD static constexpr int part(int group, int pass) { return group * passes + pass; }
};

/// Intervals whose runs a block of keys has room for.
template <class Pattern>
inline constexpr int run_capacity = query_capacity<Pattern>;
template <listed_pattern Pattern>
inline constexpr int run_capacity<Pattern> = 32;

/// Under a comb: which block of its segment this is, as class_blocks counts them, and how many the thread block that took it walks after
/// it; where the sums of its queries' class begin in memory.
template <int Step>
struct alignas(16) class_place {
    int segment, block, left, sums_begin;
};
template <>
struct class_place<1> {};

/// A block of keys, as all its warps see it, with the runs of live tiles of queries of its own and of the block that adds to dQ
/// before it; no head: the end.
template <class Pattern>
struct alignas(16) key_block : class_place<step_of<Pattern>> {
    attention_segment s;  ///< of one remainder where a comb is walked
    index first_row;      ///< of its keys within the segment's
    int number, live_keys, key_head;
    int tiles;  ///< that it visits, heads of the group counted
    run_list<run_capacity<Pattern>> runs, neighbour;

    /// Where the sums of its first query lie: a remainder's rows have theirs side by side.
    __device__ __forceinline__ index first_sum() const {
        if constexpr (step_of<Pattern> == 1) return s.query_begin;
        else return this->sums_begin;
    }
};

/// What a slot of queries holds.
struct query_entry {
    int tile, head;  ///< `tested_tile` in the tile's number: elements are tested
};

template <int HeadDim, class Pattern, bool Dropout>
struct backward_memory {
    using shape = backward_shape<HeadDim>;
    using block_type = key_block<Pattern>;
    using key_tile = swizzled_tile<shape::keys, HeadDim>;
    using query_tile = swizzled_tile<shape::queries, HeadDim>;
    using map_tile = swizzled_tile<shape::keys, shape::queries>;
    using masks = mask_words<shape::keys, shape::queries>;
    using drops = kept_columns<shape::keys, shape::queries>;
    static constexpr int markers = Dropout ? 2 : 1;  ///< warps that make what a tile is marked with
    using query_ring_type = pipeline::ring<shape::slots>;  // of queries, and of their marks
    using d_out_ring_type = pipeline::ring<shape::d_out_slots>;
    using dq_ring_type = pipeline::ring<shape::adders * shape::passes>;  ///< turns at one room: an adding warp sees all of a slot's
    using work_ring_type = pipeline::ring<2>;
    using single = pipeline::ring<1>;
    static constexpr int part = 64 * 64 * 4;  ///< of dQ
    static constexpr int keys = 0, values = keys + key_tile::size, queries = values + key_tile::size;
    static constexpr int d_out = queries + shape::slots * query_tile::size, map = d_out + shape::d_out_slots * query_tile::size;
    static constexpr int dq = map + shape::slots * map_tile::size, seen = dq + shape::groups * part, kept = seen + shape::slots * masks::size;
    static constexpr int statistics = kept + (Dropout ? shape::slots * drops::size : 0), statistics_slot = shape::queries * 8;
    static constexpr int query_ring = statistics + shape::slots * statistics_slot, mark_ring = query_ring + query_ring_type::size;
    static constexpr int d_out_ring = mark_ring + query_ring_type::size, dq_ring = d_out_ring + d_out_ring_type::size;
    static constexpr int key_ring = dq_ring + dq_ring_type::size, work_ring = key_ring + single::size;
    static constexpr int ragged = work_ring + work_ring_type::size, entries = ragged + 16, blocks = entries + 8 * shape::slots;
    static constexpr int size = blocks + 2 * int{sizeof(block_type)};
    static_assert(blocks % 16 == 0 && statistics % 16 == 0 && seen % 16 == 0);
    static_assert(size <= 232448, "a thread block has 227 KiB of shared memory");

    /// What is being worked on: an address that every use makes anew, so that no register keeps it.
    __device__ __forceinline__ static block_type& block(std::uint32_t slot) {
        extern __shared__ __align__(1024) unsigned char shared[];
        return reinterpret_cast<block_type*>(shared + blocks)[slot];
    }
    __device__ static constexpr query_tile query_slot(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(queries + slot * query_tile::size)}; }
    __device__ static constexpr query_tile d_out_slot(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(d_out + slot * query_tile::size)}; }
    /// Of the parts of dQ that are handed over, number `turn`.
    __device__ static constexpr pipeline::ring_place<dq_ring_type::slots> dq_turn(std::uint32_t turn) {
        constexpr std::uint32_t slots = dq_ring_type::slots;
        return {static_cast<int>(turn % slots), turn / slots & 1};
    }
    __device__ static constexpr masks seen_in(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(seen + slot * masks::size)}; }
    __device__ static constexpr drops kept_in(std::uint32_t base, int slot) { return {base + static_cast<std::uint32_t>(kept + slot * drops::size)}; }
};

/// One call's arguments.
template <class D, class Pattern>
struct backward_call {
    row_maps<step_of<Pattern>> queries, keys, values, d_out;
    D *dk, *dv;
    index dk_stride, dv_stride;
    const float2* statistics;  ///< [heads][query_tokens]: log-sum-exp in base 2 (+∞ where nothing was seen), delta
    float* dq_sums;            ///< [heads][panels][query_tokens][64], 16-byte units of a row in an order of their own; a segment's by class
    std::int32_t* marks;       ///< [heads][query_tokens], of the first sum of each tile of queries: who added last
    index query_tokens;
    const attention_segment* segments;
    work_order work;
    pattern_values<typename Pattern::arguments> arguments;
    score_numbers numbers;
    int group, first_head;  ///< of those that tensors hold here, among those that numbers are drawn for
    bool rising;  ///< sums of dQ go from the first block of keys to the last, and walks from the last tile of queries to the first
    bool add_keys;
};

/// Visits the tiles of queries of a block of keys: f(tile, head, partial); a tile's heads one after another. Runs of a listed pattern that
/// found no room are looked up one by one.
template <class Pattern, class Shape, class Call, class Block, class F>
__device__ __forceinline__ void for_each_tile(const Call& c, const Block& b, const F& f) {
    int behind = 0;
    for (int i = 0;; ++i) {
        tile_run run;
        if (i < b.runs.count) {
            const auto& of = b.runs.runs[c.rising ? b.runs.count - 1 - i : i];
            run = {of.first, of.last, of.partial != 0 ? tile_class::partial : tile_class::full};
        } else {
            if (!listed_pattern<Pattern> || !b.runs.more) return;
            const interval keys{b.s.key_position + b.first_row, b.s.key_position + b.first_row + b.live_keys};
            auto walk = runs_from<Pattern, false, int>(c.arguments(), b.s.ordinal, keys, {b.s.query_position, b.s.query_position + b.s.query_count},
                                                       Shape::queries, behind);
            if (!walk.next(run)) return;
        }
        behind = static_cast<int>(run.last);
        for (int k = static_cast<int>(run.first); k < behind; ++k) {
            const int tile = c.rising ? static_cast<int>(run.first) + behind - 1 - k : k;
            for (int head = b.key_head * c.group; head < (b.key_head + 1) * c.group; ++head) f(tile, head, run.kind == tile_class::partial);
        }
    }
}

}  // namespace longspan::cuda::hopper::detail
