// SPDX-License-Identifier: Apache-2.0
//
// The forward of attention on Hopper. A thread block takes 128 queries of one head. Its first warp walks the live tiles of keys and
// has them copied into rings of slots; two warpgroups, each with 64 queries, multiply:
//
//     step n:   issue S(n) = Q Kᵀ(n) and O += P(n−1) V(n−1);   S(n) has come: P(n) = exp2(S(n) − peak), while O is under way
//
// and a pair of named barriers makes one warpgroup's exponentials fall into the other's products.
//
// The peak that exponents are measured from follows the true maximum only when that has outgrown it by 2^8: then sums and output
// are rescaled, which is rare; what is added meanwhile stays far below any format's largest value.
#pragma once

#include <longspan/cuda/hopper/detail/score_tile.cuh>
#include <longspan/cuda/hopper/detail/swizzled_tile.cuh>
#include <longspan/cuda/pipeline/ring.cuh>
#include <longspan/cuda/pipeline/roles.hpp>
#include <longspan/cuda/ptx/elect.cuh>
#include <longspan/cuda/ptx/named_barrier.cuh>
#include <longspan/cuda/ptx/setmaxnreg.cuh>
#include <longspan/cuda/ptx/shared.cuh>
#include <longspan/cuda/ptx/stmatrix.cuh>
#include <longspan/cuda/ptx/tma.cuh>
#include <longspan/cuda/ptx/wgmma.cuh>
#include <longspan/pattern/runs.hpp>

namespace longspan::cuda::hopper::detail {

using longspan::cuda::detail::attention_block, longspan::cuda::detail::score_numbers, longspan::cuda::detail::store_pair;
using longspan::cuda::detail::log2_e, longspan::cuda::detail::ln_2;

template <int HeadDim>
struct forward_shape {
    static constexpr int groups = 2, queries = 64 * groups;        ///< warpgroups that multiply, and their queries
    static constexpr int keys = HeadDim == 256 ? 64 : 128;         ///< of a tile: wide heads leave registers for 64
    static constexpr int threads = 128 * (groups + 1), slots = 2;
    static constexpr int query_slots = HeadDim == 256 ? 1 : 2;     ///< the next block's queries arrive while this one's are in use
    static constexpr int copier_registers = 40, registers = 232;
    static_assert(pipeline::registers_suffice(copier_registers, groups, registers));
};

/// A block of queries of one head, as all warps see it; no head: the end.
struct query_block {
    attention_segment s;
    index first_row;  ///< of its queries within the segment's
    int live_rows, head;
};

template <int HeadDim>
struct forward_memory {
    using shape = forward_shape<HeadDim>;
    using query_tile = swizzled_tile<64, HeadDim>;
    using key_tile = swizzled_tile<shape::keys, HeadDim>;
    using work_ring = pipeline::ring<shape::query_slots>;
    using tile_ring = pipeline::ring<shape::slots>;
    static constexpr int queries_size = shape::groups * query_tile::size;
    static constexpr int queries = 0, keys = shape::query_slots * queries_size, values = keys + shape::slots * key_tile::size;
    static constexpr int key_full = values + shape::slots * key_tile::size, value_full = key_full + tile_ring::size, work_full = value_full + tile_ring::size;
    static constexpr int ragged = work_full + work_ring::size, tiles = ragged + 8, blocks = tiles + 4 * shape::slots;
    static constexpr int size = blocks + shape::query_slots * int{sizeof(query_block)};
    static_assert(size <= 232448, "a thread block has 227 KiB of shared memory");
};

/// One call's arguments.
template <class O, class Arguments>
struct forward_call {
    CUtensorMap queries, keys, values;
    O* out;
    index out_stride;
    statistic_view<float> lse;
    const attention_segment* segments;
    const attention_block* blocks;
    pattern_values<Arguments> arguments;
    score_numbers numbers;
    int group, heads;
    bool merge;
};

/// What a slot holds: a tile's number and whether its elements are tested; `no_tile` behind the last.
inline constexpr int no_tile = -1, tested_tile = 1 << 30;

/// Elements [live, Rows) of a tile become 0, by one warp.
template <int Rows, int Columns>
__device__ __forceinline__ void clear_rows(const swizzled_tile<Rows, Columns>& tile, int live) {
    const int lane = static_cast<int>(threadIdx.x) & 31;
    for (int i = lane; i < (Rows - live) * (Columns / 8); i += 32) {
        const int row = live + i / (Columns / 8), column = i % (Columns / 8) * 8;
        ptx::store(tile.base + swizzled_tile<Rows, Columns>::offset(row, column), make_uint4(0, 0, 0, 0));
    }
}

/// The copying warp: block after block, queries, then keys of tile n + 1 before the values of tile n.
template <class Pattern, int HeadDim, class Call>
__device__ __forceinline__ void copy_forward(const Call& c, query_block* blocks, std::uint32_t base) {
    using shape = forward_shape<HeadDim>;
    using memory = forward_memory<HeadDim>;
    using key_tile = typename memory::key_tile;
    const typename memory::tile_ring key_ring{base + memory::key_full}, value_ring{base + memory::value_full};
    const typename memory::work_ring work_ring{base + memory::work_full};
    typename memory::tile_ring::place at_keys, at_values;
    typename memory::work_ring::place at_work;
    std::uint32_t ragged_parity = 0;
    const bool leader = ptx::elect();
    const long long total = c.blocks[0].block, items = total * c.heads;

    for (long long item = blockIdx.x;; item += gridDim.x) {
        work_ring.wait_free(at_work);
        query_block& b = blocks[at_work.slot];
        if (item >= items) {
            if (leader) {
                b.head = -1;
                ptx::mbarrier_arrive(work_ring.full(at_work));
            }
            return;
        }
        const int head = static_cast<int>(item / total), panel = head * (HeadDim / 64), key_panel = head / c.group * (HeadDim / 64);
        const attention_block block = c.blocks[1 + item % total];
        const attention_segment s = c.segments[block.segment];
        const index first_row = static_cast<index>(block.block) * shape::queries;
        const int live_rows = static_cast<int>(s.query_count - first_row < shape::queries ? s.query_count - first_row : shape::queries);
        if (leader) {
            b = {s, first_row, live_rows, head};
            ptx::mbarrier_arrive_expect(work_ring.full(at_work), memory::queries_size);
            for (int i = 0; i < shape::groups; ++i) {
                ptx::copy_box(base + memory::queries + static_cast<std::uint32_t>(at_work.slot * memory::queries_size + i * memory::query_tile::size), &c.queries, 0,
                              static_cast<int>(s.query_begin + first_row) + 64 * i, panel, work_ring.full(at_work));
            }
        }
        at_work.advance();

        const auto copy_values = [&](int tile) {
            value_ring.wait_free(at_values);
            const key_tile to{base + memory::values + static_cast<std::uint32_t>(at_values.slot * key_tile::size)};
            const index first = static_cast<index>(tile) * shape::keys;
            // Rows of other documents, or of none, must not meet even a probability of 0: they may not be finite.
            const bool ragged = s.key_count - first < shape::keys;
            const std::uint32_t arrival = ragged ? base + memory::ragged : value_ring.full(at_values);
            if (leader) {
                ptx::mbarrier_arrive_expect(arrival, key_tile::size);
                ptx::copy_box(to.base, &c.values, 0, static_cast<int>(s.key_begin + first), key_panel, arrival);
            }
            if (ragged) {
                ptx::mbarrier_wait(arrival, ragged_parity);
                ragged_parity ^= 1;
                clear_rows(to, static_cast<int>(s.key_count - first));
                ptx::fence_async_proxy();
                __syncwarp();
                if (leader) ptx::mbarrier_arrive(value_ring.full(at_values));
            }
            at_values.advance();
        };
        const auto enter_tile = [&](int entry) {
            ptx::store(base + memory::tiles + 4 * at_keys.slot, static_cast<std::uint32_t>(entry));
        };
        const index first_query = s.query_position + first_row;
        auto walk = key_runs<Pattern>(c.arguments(), s.ordinal, {first_query, first_query + live_rows}, {s.key_position, s.key_position + s.key_count},
                                      shape::keys);
        int before = no_tile;
        for (tile_run run; walk.next(run);) {
            for (int tile = static_cast<int>(run.first); tile < static_cast<int>(run.last); ++tile) {
                const index first = static_cast<index>(tile) * shape::keys;
                key_ring.wait_free(at_keys);
                if (leader) {
                    const bool tested = run.kind == tile_class::partial || s.key_count - first < shape::keys;
                    enter_tile(tile | (tested ? tested_tile : 0));
                    ptx::mbarrier_arrive_expect(key_ring.full(at_keys), key_tile::size);
                    ptx::copy_box(base + memory::keys + static_cast<std::uint32_t>(at_keys.slot * key_tile::size), &c.keys, 0,
                                  static_cast<int>(s.key_begin + first), key_panel, key_ring.full(at_keys));
                }
                at_keys.advance();
                if (before != no_tile) copy_values(before);
                before = tile;
            }
        }
        key_ring.wait_free(at_keys);
        if (leader) {
            enter_tile(no_tile);
            ptx::mbarrier_arrive(key_ring.full(at_keys));
        }
        at_keys.advance();
        if (before != no_tile) copy_values(before);
    }
}

/// Named barriers by which the warpgroups take turns.
inline constexpr int first_turn = 1;

/// A warpgroup's 64 queries of one block.
template <class Pattern, int HeadDim, class Score, class T, class Call>
__device__ __forceinline__ void multiply_forward(const Call& c, const query_block& block, typename forward_memory<HeadDim>::query_tile queries,
                                                 typename forward_memory<HeadDim>::tile_ring::place& at_keys,
                                                 typename forward_memory<HeadDim>::tile_ring::place& at_values, std::uint32_t base) {
    using shape = forward_shape<HeadDim>;
    using memory = forward_memory<HeadDim>;
    using query_tile = typename memory::query_tile;
    using key_tile = typename memory::key_tile;
    const typename memory::tile_ring key_ring{base + memory::key_full}, value_ring{base + memory::value_full};
    const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = static_cast<int>(threadIdx.x) & 31;
    const int warp_row = 64 * group + static_cast<int>(threadIdx.x) / 32 % 4 * 16, g = lane / 4, t = lane % 4;
    // What only tested tiles or the end need is asked of the block there: no registers carry it through the loop.
    const attention_segment& s = block.s;
    const auto query_position_of_lane = [&] { return s.query_position + block.first_row + warp_row + g; };
    const int head = block.head;
    const std::uint64_t query_operand = queries.rows_from();

    score_tile<Pattern, shape::keys, Score, T> tile(c.numbers, head, s.document);
    float out[HeadDim / 2];
    std::uint32_t probability[shape::keys / 16][4];
    bool started = false;

    const auto entry_of = [&] { return static_cast<int>(ptx::load_word(base + memory::tiles + 4 * at_keys.slot)); };
    const auto issue_scores = [&] {
        const std::uint64_t keys = key_tile{base + memory::keys + static_cast<std::uint32_t>(at_keys.slot * key_tile::size)}.rows_from();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(tile.score, query_operand + query_tile::along_columns(d), keys + key_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
    };
    const auto issue_out = [&] {
        const std::uint64_t values = key_tile{base + memory::values + static_cast<std::uint32_t>(at_values.slot * key_tile::size)}.columns_from();
#pragma unroll
        for (int k = 0; k < shape::keys; k += 16) ptx::multiply<T, 1>(out, probability[k / 16], values + key_tile::along_rows(k), k > 0 || started);
        ptx::commit_products();
        started = true;
    };
    const auto draw = [&](int entry) {
        if constexpr (Score::dropout) tile.draw(query_position_of_lane(), s.key_position + static_cast<index>(entry & ~tested_tile) * shape::keys);
    };
    const auto make_scores = [&](int entry) {
        const index first = static_cast<index>(entry & ~tested_tile) * shape::keys;
        if constexpr (!decltype(tile)::rule_type::plain) tile.place(query_position_of_lane(), s.key_position + first);
        if (entry & tested_tile) {
            const int live_keys = static_cast<int>(s.key_count - first < shape::keys ? s.key_count - first : shape::keys);
            tile.test(c.arguments(), s.ordinal, query_position_of_lane(), s.key_position + first, live_keys);
        }
        return tile.raise();
    };

    key_ring.wait_full(at_keys);
    int entry = entry_of();
    const bool any = entry != no_tile;
    if (any) {
        draw(entry);
        ptx::fence_products();
        issue_scores();
        ptx::wait_products<0>();
        ptx::pin(tile.score);
        __syncwarp();
        if (lane == 0) key_ring.free(at_keys);
        at_keys.advance();
        make_scores(entry);
        tile.template pack<T>(probability);
        while (true) {
            key_ring.wait_full(at_keys);
            entry = entry_of();
            if (entry == no_tile) break;
            draw(entry);
            ptx::barrier_wait(first_turn + group, 256);
            ptx::pin(out);
            ptx::fence_products();
            issue_scores();
            value_ring.wait_full(at_values);
            ptx::fence_products();  // ptxas forgets the first one over the loop that waits
            issue_out();
            ptx::barrier_arrive(first_turn + (group ^ 1), 256);
            ptx::wait_products<1>();
            ptx::pin(tile.score);
            if (lane == 0) key_ring.free(at_keys);
            at_keys.advance();
            const bool moved = make_scores(entry);
            ptx::wait_products<0>();
            ptx::pin(out);
            if (lane == 0) value_ring.free(at_values);
            at_values.advance();
            tile.template pack<T>(probability);
            if (moved) tile.shrink_rows(out);
        }
        value_ring.wait_full(at_values);
        ptx::pin(out);
        ptx::fence_products();
        issue_out();
        ptx::wait_products<0>();
        ptx::pin(out);
        if (lane == 0) value_ring.free(at_values);
        at_values.advance();
    } else {
#pragma unroll
        for (int i = 0; i < HeadDim / 2; ++i) out[i] = 0;
    }

    __syncwarp();  // every lane has read the entry
    if (lane == 0) key_ring.free(at_keys);  // of the end's slot
    at_keys.advance();

    // Out: rows g and g + 8 of a warp's 16, through the memory of its own queries.
    using O = std::remove_pointer_t<decltype(c.out)>;
    const index row_begin = s.query_begin + block.first_row;
    const int live_rows = block.live_rows;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = warp_row + 8 * h + g;
        const bool mine = row < live_rows;
        const row_result result = tile.template finish<Score::sink>(h, c.numbers, head, c.merge, mine, c.lse, row_begin + row);
        if (mine && t == 0) c.lse(row_begin + row, head) = result.log_sum;
        if (sizeof(O) == 2 && !c.merge) {
#pragma unroll
            for (int d = 0; d < HeadDim / 8; ++d) out[4 * d + 2 * h] *= result.weight, out[4 * d + 2 * h + 1] *= result.weight;
        } else if (mine) {
            O* const to = c.out + (row_begin + row) * c.out_stride + head * HeadDim + 2 * t;
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
        const tile::thread_place here;  // asked afresh: addresses are made here, not carried from block to block
        const int own = here.warp % 4 * 16, lane = here.lane;  // rows of this warp in its warpgroup's tile
#pragma unroll
        for (int d = 0; d < HeadDim / 8; d += 2) {
            const std::uint32_t at = queries.base + query_tile::offset(own + lane % 16, 8 * d + lane / 16 * 8);
            ptx::store_matrices(at, pack_pair<O>(out[4 * d], out[4 * d + 1]), pack_pair<O>(out[4 * d + 2], out[4 * d + 3]),
                                pack_pair<O>(out[4 * d + 4], out[4 * d + 5]), pack_pair<O>(out[4 * d + 6], out[4 * d + 7]));
        }
        __syncwarp();
        constexpr int units = HeadDim / 8, rows_at_once = 32 / (units < 32 ? units : 32);
#pragma unroll
        for (int r = 0; r < 16; r += rows_at_once) {
            const int row = r + lane / units, unit = lane % units;
            if (warp_row + row >= live_rows) continue;
            *reinterpret_cast<uint4*>(c.out + (row_begin + warp_row + row) * c.out_stride + head * HeadDim + 8 * unit) =
                ptx::load_words(queries.base + query_tile::offset(own + row, 8 * unit));
        }
    }
}

template <class Pattern, int HeadDim, class Score, class T, class O>
__global__ void __launch_bounds__(forward_shape<HeadDim>::threads, 1)
    attention_forward(const __grid_constant__ forward_call<O, typename Pattern::arguments> c) {
    using shape = forward_shape<HeadDim>;
    using memory = forward_memory<HeadDim>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const std::uint32_t base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    query_block* const blocks = reinterpret_cast<query_block*>(shared + memory::blocks);
    const typename memory::work_ring work_ring{base + memory::work_full};

    if (threadIdx.x == 0) {
        ptx::prefetch_tensor_map(&c.queries);
        ptx::prefetch_tensor_map(&c.keys);
        ptx::prefetch_tensor_map(&c.values);
        typename memory::tile_ring{base + memory::key_full}.init(1, 4 * shape::groups);
        typename memory::tile_ring{base + memory::value_full}.init(1, 4 * shape::groups);
        work_ring.init(1, 4 * shape::groups);
        ptx::mbarrier_init(base + memory::ragged, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        ptx::give_registers<shape::copier_registers>();
        if (threadIdx.x < 32) copy_forward<Pattern, HeadDim>(c, blocks, base);
    } else {
        ptx::take_registers<shape::registers>();
        const int group = static_cast<int>(threadIdx.x) / 128 - 1;
        if (group == 1) ptx::barrier_arrive(first_turn, 256);  // the second warpgroup lets the first begin
        typename memory::tile_ring::place at_keys, at_values;
        for (typename memory::work_ring::place at;; at.advance()) {
            work_ring.wait_full(at);
            const query_block& block = blocks[at.slot];
            if (block.head < 0) break;
            const std::uint32_t queries = base + memory::queries + static_cast<std::uint32_t>(at.slot * memory::queries_size + group * memory::query_tile::size);
            multiply_forward<Pattern, HeadDim, Score, T>(c, block, {queries}, at_keys, at_values, base);
            ptx::fence_async_proxy();  // out was staged where the next queries arrive
            __syncwarp();
            if ((threadIdx.x & 31) == 0) work_ring.free(at);
        }
    }
}

}  // namespace longspan::cuda::hopper::detail
