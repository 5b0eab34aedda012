// SPDX-License-Identifier: Apache-2.0
//
// What a warpgroup of Hopper's forward does with its 64 queries of a block (hopper/detail/forward_kernel.cuh), and how they leave.
#pragma once

#include <longspan/cuda/hopper/detail/forward_shape.cuh>
#include <longspan/cuda/hopper/detail/score_tile.cuh>

namespace longspan::cuda::hopper::detail {

/// Named barriers by which the warpgroups take turns.
inline constexpr int first_turn = 1;

/// Where a lane's rows lie: rows g and g + 8 from `row` on, of the block of queries.
struct lane_rows {
    int group, lane, row, t;
    __device__ __forceinline__ lane_rows() {
        const int thread = ptx::thread_x();
        group = thread / 128 - 1, lane = thread & 31, row = 64 * group + thread / 32 % 4 * 16 + lane / 4, t = lane % 4;
    }
};

/// Output rows, and with them the log-sum-exp: through the memory of the warp's own queries where rows leave as two-byte numbers.
template <int HeadDim, int Step, class Score, class Call, class Tile, class QueryTile>
__device__ __forceinline__ void write_out(const Call& c, const query_block& block, Tile& tile, float (&out)[HeadDim / 2], QueryTile queries) {
    using O = std::remove_pointer_t<decltype(c.out)>;
    const index row_begin = block.s.query_begin + Step * block.first_row;
    const int live_rows = block.live_rows, head = block.head;
    const lane_rows me;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = me.row + 8 * h;
        const bool mine = row < live_rows;
        const row_result result = tile.template finish<Score::sink>(h, c.numbers, head, c.merge, mine, c.lse, row_begin + Step * row);
        if (mine && me.t == 0) c.lse(row_begin + Step * row, head) = result.log_sum;
        if (sizeof(O) == 2 && !c.merge) {
#pragma unroll
            for (int d = 0; d < HeadDim / 8; ++d) out[4 * d + 2 * h] *= result.weight, out[4 * d + 2 * h + 1] *= result.weight;
        } else if (mine) {
            O* const to = c.out + (row_begin + Step * row) * c.out_stride + head * HeadDim + 2 * me.t;
#pragma unroll
            for (int d = 0; d < HeadDim / 8; ++d) {
                float low = out[4 * d + 2 * h] * result.weight, high = out[4 * d + 2 * h + 1] * result.weight;
                if (result.other != 0) low = fmaf(to_compute(to[8 * d]), result.other, low), high = fmaf(to_compute(to[8 * d + 1]), result.other, high);
                store_pair(to + 8 * d, low, high);
            }
        }
    }
    if constexpr (sizeof(O) == 2) {
        if (c.merge) return;
        const lane_rows here;  // asked afresh: addresses are made here, not carried from block to block
        const int warp_row = here.row - here.lane / 4, own = warp_row % 64;
#pragma unroll
        for (int d = 0; d < HeadDim / 8; d += 2) {
            const std::uint32_t at = queries.base + QueryTile::offset(own + here.lane % 16, 8 * d + here.lane / 16 * 8);
            ptx::store_matrices(at, pack_pair<O>(out[4 * d], out[4 * d + 1]), pack_pair<O>(out[4 * d + 2], out[4 * d + 3]),
                                pack_pair<O>(out[4 * d + 4], out[4 * d + 5]), pack_pair<O>(out[4 * d + 6], out[4 * d + 7]));
        }
        __syncwarp();
        constexpr int units = HeadDim / 8, rows_at_once = 32 / units;
#pragma unroll
        for (int r = 0; r < 16; r += rows_at_once) {
            const int row = r + here.lane / units, unit = here.lane % units;
            if (warp_row + row >= live_rows) continue;
            *reinterpret_cast<uint4*>(c.out + (row_begin + Step * warp_row + Step * row) * c.out_stride + head * HeadDim + 8 * unit) =
                ptx::load_words(queries.base + QueryTile::offset(own + row, 8 * unit));
        }
    }
}

template <class Pattern, int HeadDim, class Score, class T, class Call>
__device__ __forceinline__ void multiply_forward(const Call& c, const query_block& block, typename forward_memory<Pattern, HeadDim, Score::dropout>::query_tile queries,
                                                 typename forward_memory<Pattern, HeadDim, Score::dropout>::tile_ring::place& at_keys,
                                                 typename forward_memory<Pattern, HeadDim, Score::dropout>::tile_ring::place& at_values, std::uint32_t base) {
    using shape = forward_shape<Pattern, HeadDim, Score::dropout>;
    using memory = forward_memory<Pattern, HeadDim, Score::dropout>;
    using query_tile = typename memory::query_tile;
    using key_tile = typename memory::key_tile;
    const typename memory::tile_ring key_ring{base + memory::key_full}, value_ring{base + memory::value_full};
    const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = static_cast<int>(threadIdx.x) & 31;
    const std::uint64_t query_operand = queries.rows_from();

    score_tile<Pattern, shape::keys, Score, T> tile(c.numbers, block.head);
    float out[HeadDim / 2];
    std::uint32_t probability[shape::keys / 16][4];
    bool started = false;
    [[maybe_unused]] typename memory::drops::lane_bits kept;

    const auto entry_of = [&] { return static_cast<int>(ptx::load_word(base + memory::tiles + 4 * at_keys.slot)); };
    const auto issue_scores = [&] {
        const std::uint64_t keys = key_tile{memory::key_slot(base, at_keys.slot)}.rows_from();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(tile.score, query_operand + query_tile::along_columns(d), keys + key_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
    };
    const auto issue_out = [&] {
        const std::uint64_t values = key_tile{memory::value_slot(base, at_values.slot)}.columns_from();
#pragma unroll
        for (int k = 0; k < shape::keys; k += 16) ptx::multiply<T, 1>(out, probability[k / 16], values + key_tile::along_rows(k), k > 0 || started);
        ptx::commit_products();
        started = true;
    };
    // Scores have come: the keys' slot is free once its bits are read.
    const auto raise = [&](int entry) {
        const lane_rows me;
        if constexpr (Score::dropout) kept = memory::kept_in(base, at_keys.slot).of_lane(me.row, me.t);
        if constexpr (!decltype(tile)::rule_type::plain) {
            const attention_segment& s = block.s;
            tile.place(s.query_position + block.first_row + me.row, s.key_position + static_cast<index>(entry & ~tested_tile) * shape::keys);
        }
        if (entry & tested_tile) tile.hide(memory::seen_in(base, at_keys.slot).of_lane(me.row, me.t));
        __syncwarp();
        key_ring.free_as_warp(at_keys, lane);
        at_keys.advance();
        return tile.raise();
    };

    key_ring.wait_full(at_keys);
    int entry = entry_of();
    if (entry != no_tile) {
        ptx::fence_products();
        issue_scores();
        ptx::wait_products<0>();
        ptx::pin(tile.score);
        raise(entry);
        tile.template pack<T>(probability, kept);
        key_ring.wait_full(at_keys);
        while (true) {
            entry = entry_of();
            if (entry == no_tile) break;
            ptx::barrier_wait(first_turn + group, 256);
            ptx::pin(out);
            ptx::fence_products();
            issue_scores();
            value_ring.wait_full(at_values);
            ptx::fence_products();  // ptxas forgets the first one over the loop that waits
            issue_out();
            ptx::barrier_arrive(first_turn + (group + 1) % shape::groups, 256);
            ptx::wait_products<1>();
            ptx::pin(tile.score);
            const bool moved = raise(entry);
            // A branch between the exponentials and the wait: ptxas moves them behind it otherwise, where nothing is under way.
            key_ring.wait_full(at_keys);
            ptx::wait_products<0>();
            ptx::pin(out);
            value_ring.free_as_warp(at_values, lane);
            at_values.advance();
            tile.template pack<T>(probability, kept);
            if (moved) tile.shrink_rows(out);
        }
        value_ring.wait_full(at_values);
        ptx::pin(out);
        ptx::fence_products();
        issue_out();
        ptx::wait_products<0>();
        ptx::pin(out);
        value_ring.free_as_warp(at_values, lane);
        at_values.advance();
    } else {
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) out[i] = 0;
    }
    __syncwarp();  // every lane has read the entry
    key_ring.free_as_warp(at_keys, lane);  // of the end's slot
    at_keys.advance();
    write_out<HeadDim, step_of<Pattern>, Score>(c, block, tile, out, queries);
}

}  // namespace longspan::cuda::hopper::detail
