// SPDX-License-Identifier: Apache-2.0
//
// dQ on mma.sync: a thread block takes a block of queries of one head and walks the live tiles of keys, as the forward does; each
// warp makes its rows of S and dP again, and dS goes from sums to operands within its registers:
//
//     dS = P ∘ (dP ∘ drop − delta),   dQ = scale · dS · K
//
// Two tiles of keys and values are in flight: one is read while the next arrives.
#pragma once

#include <longspan/cuda/detail/attention_tile.cuh>

namespace longspan::cuda::detail {

/// Whether a score takes more registers than its product.
template <class Score>
inline constexpr bool busy_score = Score::soft_cap || Score::dropout || Score::alibi;

template <class F, int HeadDim, class Score>
struct query_gradient_shape {
    static constexpr bool wide = sizeof(typename tile::operands<F>::element) == 4;
    static constexpr int width = (HeadDim + 15) / 16 * 16;
    static constexpr int row_tiles = !wide && width <= 128 ? 2 : 1;
    static constexpr int warps = 4, threads = 32 * warps;
    static constexpr int warp_rows = 16 * row_tiles, queries = warp_rows * warps;
    static constexpr int keys = !wide && width <= 64 ? 64 : 32;
    static constexpr int stages = wide && width > 128 ? 1 : 2;
    static constexpr int resident = wide || width > 128 || (Score::soft_cap && Score::dropout) ? 1 : 2;
};

/// One call's arguments, of both kernels of the backward.
template <class T, class D, class Arguments>
struct backward_call {
    const T *queries, *keys, *values, *d_out;
    index query_stride, key_stride, value_stride, d_out_stride;
    D *dq, *dk, *dv;
    index dq_stride, dk_stride, dv_stride;
    const float2* statistics;  ///< [heads][query_tokens]: log-sum-exp in base 2 (+∞ where nothing was seen), delta
    float* dq_sums;            ///< [heads][query_tokens][width]
    std::int32_t* marks;       ///< [heads][query_tokens], of the first row of each block of queries: who added last
    unsigned* counter;         ///< of blocks of keys handed out
    index query_tokens;
    const attention_segment* segments;
    const attention_block *query_blocks, *key_blocks;
    pattern_values<Arguments> arguments;
    score_numbers numbers;
    int group;
    bool add_keys;
};

template <class F, int HeadDim, class Score, int Capacity>
struct query_gradient_memory {
    using shape = query_gradient_shape<F, HeadDim, Score>;
    using element = typename tile::operands<F>::element;
    using query_tile = tile::shared_tile<element, shape::queries, shape::width>;
    using key_tile = tile::shared_tile<element, shape::keys, shape::width>;
    using drawn = drop_bytes<shape::warp_rows, shape::keys>;
    static constexpr int queries = 0, d_out = query_tile::size, keys = d_out + query_tile::size;
    static constexpr int stage = 2 * key_tile::size, drop = keys + shape::stages * stage;
    static constexpr int block = drop + (Score::dropout ? shape::warps * drawn::size : 0);
    static constexpr int size = block + int{sizeof(block_memory<Capacity>)};
};

template <class Pattern, int HeadDim, class Score, class F, class T, class D>
__global__ void __launch_bounds__(query_gradient_shape<F, HeadDim, Score>::threads, query_gradient_shape<F, HeadDim, Score>::resident)
    attention_query_gradients(const __grid_constant__ backward_call<T, D, typename Pattern::arguments> c) {
    using shape = query_gradient_shape<F, HeadDim, Score>;
    using ops = tile::operands<F>;
    constexpr int capacity = key_capacity<Pattern>;
    using memory = query_gradient_memory<F, HeadDim, Score, capacity>;
    constexpr int row_tiles = shape::row_tiles, key_blocks = shape::keys / 8, width_blocks = shape::width / 8, depth = ops::depth;
    constexpr int unrolled = !shape::wide ? 16 : shape::width <= 128 ? 2 : 1;  // parts of floats fill registers; loads of them must not run ahead
    extern __shared__ __align__(16) unsigned char shared[];

    const attention_block block = c.query_blocks[1 + blockIdx.x];
    if (block.segment < 0) return;
    const index head = blockIdx.y, first_row = static_cast<index>(block.block) * shape::queries;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = tile::lane_id(), g = lane / 4, t = lane % 4;
    const int warp_row = warp * shape::warp_rows;
    const std::uint32_t base = ptx::shared_address(shared);
    const typename memory::query_tile query_tile{base}, d_out_tile{base + memory::d_out};
    auto& kept = *reinterpret_cast<block_memory<capacity>*>(shared + memory::block);
    const attention_segment& s = kept.segment;
    int live_rows;
    {
        const attention_segment from = c.segments[block.segment];
        live_rows = static_cast<int>(from.query_count - first_row < shape::queries ? from.query_count - first_row : shape::queries);
        const index row = from.query_begin + first_row;
        tile::copy_rows<shape::threads, HeadDim>(query_tile, c.queries + row * c.query_stride + head * HeadDim, c.query_stride, live_rows);
        tile::copy_rows<shape::threads, HeadDim>(d_out_tile, c.d_out + row * c.d_out_stride + head * HeadDim, c.d_out_stride, live_rows);
        if (threadIdx.x == 0) {
            const index first_query = from.query_position + first_row;
            kept.segment = from;
            kept.column = static_cast<int>(blockIdx.y) / c.group * HeadDim;
            list_key_runs<Pattern, shape::keys>(kept.runs, c.arguments, from.ordinal, {first_query, first_query + live_rows},
                                                {from.key_position, from.key_position + from.key_count});
        }
    }
    __syncthreads();

    const auto copy_stage = [&](int stage, int at) {
        const index first = static_cast<index>(at) * shape::keys, left = s.key_count - first, column = kept.column;
        const int live = static_cast<int>(left < shape::keys ? left : shape::keys);
        const std::uint32_t place = base + memory::keys + stage * memory::stage;
        tile::copy_rows<shape::threads, HeadDim>(typename memory::key_tile{place}, c.keys + (s.key_begin + first) * c.key_stride + column,
                                                 c.key_stride, live);
        tile::copy_rows<shape::threads, HeadDim>(typename memory::key_tile{place + memory::key_tile::size},
                                                 c.values + (s.key_begin + first) * c.value_stride + column, c.value_stride, live);
    };
    auto at = run_place<capacity>::begin(kept.runs);
    if (at.live) copy_stage(0, at.tile);
    ptx::commit_copies();

    const score_rule<Score, F> rule(c.numbers, head);
    const float factor = rule.factor();
    philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();
    const auto queries_left = ops::left_view(query_tile.from(warp_row), lane), d_out_left = ops::left_view(d_out_tile.from(warp_row), lane);
    float2 statistic[row_tiles][2];  // log-sum-exp, delta
#pragma unroll
    for (int m = 0; m < row_tiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = warp_row + 16 * m + 8 * h + g;
            statistic[m][h] = row < live_rows ? c.statistics[head * c.query_tokens + s.query_begin + first_row + row]
                                              : make_float2(std::numeric_limits<float>::infinity(), 0);
        }
    float dq[row_tiles][width_blocks][4] = {};

    for (int stage = 0; at.live; stage = (stage + 1) % shape::stages) {
        const int tile_here = at.tile;
        const bool partial = at.partial;
        at.advance(kept.runs);
        ptx::wait_copies<0>();
        __syncthreads();  // this stage is here, and nobody reads the last one
        if (shape::stages > 1 && at.live) copy_stage((stage + 1) % shape::stages, at.tile);
        ptx::commit_copies();
        const typename memory::key_tile key_tile{base + memory::keys + stage * memory::stage}, value_tile{key_tile.base + memory::key_tile::size};

        const auto q_view = queries_left.afresh(), o_view = d_out_left.afresh();
        const auto k_view = ops::right_view(key_tile, lane).afresh(), v_view = ops::right_view(value_tile, lane).afresh();
        const auto k_turned = ops::right_transposed_view(key_tile, lane).afresh();
        float score[row_tiles][key_blocks][4] = {};
#pragma unroll unrolled
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left q[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) q[m] = ops::load_left(q_view, 16 * m, d);
#pragma unroll
            for (int n = 0; n < key_blocks; n += 2) {
                const typename ops::right k = ops::load_right(k_view, 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(score[m][n], q[m], k, 0);
                    ops::multiply(score[m][n + 1], q[m], k, 1);
                }
            }
        }
        const index first = static_cast<index>(tile_here) * shape::keys;
        const int live_keys = static_cast<int>(s.key_count - first < shape::keys ? s.key_count - first : shape::keys);
        const index key_position = s.key_position + first, first_query = s.query_position + first_row;
        const bool tested = partial || live_keys < shape::keys;
        std::uint32_t seen[row_tiles][2][shape::keys / 32];
        if (tested) {
            row_masks<shape::warp_rows, shape::keys / 32> masks;
#pragma unroll
            for (int w = 0; w < shape::keys / 32; ++w) {
                masks.word[w] = bits_of({0, live_keys}, 32 * w);
                if (partial) {
                    masks.word[w] &= Pattern::key_bits(c.arguments(), s.ordinal, first_query + warp_row + lane % shape::warp_rows, key_position + 32 * w);
                }
            }
            masks.spread(seen);
            if constexpr (!Score::soft_cap) hide(score, seen);
        }
        typename memory::drawn drawn;
        if constexpr (Score::dropout) {
            drawn.draw(base + memory::drop + warp * memory::drawn::size, drop_key, s.document, c.numbers.first_head + head, first_query + warp_row, key_position);
        }
        const int apart = static_cast<int>(first_query + warp_row - key_position) + g - 2 * t;
        // P while dP is made; from here on `score` is P, times the cap's derivative.
        float dp[row_tiles][key_blocks][4];
#pragma unroll
        for (int m = 0; m < row_tiles; ++m)
#pragma unroll
            for (int n = 0; n < key_blocks; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    const int h = e / 2;
                    float x = score[m][n][e], slope = 1;
                    if constexpr (!score_rule<Score, F>::plain) {
                        x = rule.capped(x);
                        slope = rule.derivative(x);
                        x = rule.placed(x, static_cast<float>(apart + 16 * m + 8 * h - 8 * n - e % 2));
                    }
                    float p = ptx::exp2_fast(fmaf(x, factor, -statistic[m][h].x));
                    if constexpr (Score::soft_cap) {
                        if (tested) p = seen[m][h][n / 4] >> (n % 4 * 8 + e % 2) & 1 ? p : 0.0f;
                    }
                    score[m][n][e] = p * slope;
                    dp[m][n][e] = Score::dropout ? 0.0f : -statistic[m][h].y;
                }
#pragma unroll unrolled
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left o[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) o[m] = ops::load_left(o_view, 16 * m, d);
#pragma unroll
            for (int n = 0; n < key_blocks; n += 2) {
                const typename ops::right v = ops::load_right(v_view, 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dp[m][n], o[m], v, 0);
                    ops::multiply(dp[m][n + 1], o[m], v, 1);
                }
            }
        }

#pragma unroll
        for (int m = 0; m < row_tiles; ++m)
#pragma unroll
            for (int n = 0; n < key_blocks; ++n)
#pragma unroll
                for (int e = 0; e < 4; ++e) {
                    float given = dp[m][n][e];
                    if constexpr (Score::dropout) {
                        const bool keep = drawn.of(16 * m + e / 2 * 8 + g, 8 * n + 2 * t + e % 2) >= c.numbers.drop_threshold;
                        given = fmaf(given, keep ? c.numbers.keep_scale : 0.0f, -statistic[m][e / 2].y);
                    }
                    score[m][n][e] *= given;
                }

#pragma unroll
        for (int k = 0; k < shape::keys; k += depth) {
            typename ops::left ds[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) ds[m] = ops::from_sums(score[m], k / depth);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right b = ops::load_right_transposed(k_turned, k, 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dq[m][d], ds[m], b, 0);
                    ops::multiply(dq[m][d + 1], ds[m], b, 1);
                }
            }
        }
        if (shape::stages == 1) {
            __syncthreads();
            if (at.live) copy_stage(0, at.tile);
            ptx::commit_copies();
        }
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int m = 0; m < row_tiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = warp_row + 16 * m + 8 * h + g;
            if (row >= live_rows) continue;
            D* const to = c.dq + (s.query_begin + first_row + row) * c.dq_stride + head * HeadDim + 2 * t;
#pragma unroll
            for (int d = 0; d < width_blocks; ++d) {
                if (8 * d < HeadDim) store_pair(to + 8 * d, dq[m][d][2 * h] * c.numbers.natural_scale, dq[m][d][2 * h + 1] * c.numbers.natural_scale);
            }
        }
}

}  // namespace longspan::cuda::detail
