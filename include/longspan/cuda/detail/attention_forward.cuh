// SPDX-License-Identifier: Apache-2.0
//
// The forward of attention on mma.sync. A thread block takes a block of queries of one head and walks the live tiles of keys;
// each warp keeps its own rows: scores, probabilities and the output never leave its registers. While scores are made the values
// arrive, while probabilities meet the values the next keys do; a second thread block on the same multiprocessor fills the gaps.
//
// The peak that exponents are measured from follows the true maximum only when that has outgrown it by 2^8: then sums and output
// are rescaled, which is rare; what is added meanwhile stays far below any format's largest value.
#pragma once

#include <longspan/cuda/detail/attention_tile.cuh>

namespace longspan::cuda::detail {

/// Tile sizes. 32 rows a warp halve what it reads of keys and values per score; wide heads, draws beside heads of 128, and 4-byte
/// operands leave registers for 16.
template <class F, int HeadDim, class Score>
struct forward_shape {
    static constexpr bool wide = sizeof(typename tile::operands<F>::element) == 4;
    static constexpr int width = (HeadDim + 15) / 16 * 16;
    static constexpr int row_tiles = !wide && width <= (Score::dropout ? 64 : 128) ? 2 : 1;
    static constexpr int warps = 4, threads = 32 * warps;
    static constexpr int warp_rows = 16 * row_tiles, queries = warp_rows * warps;
    static constexpr int keys = wide ? 32 : 64;
    static constexpr int resident = wide && width > 128 ? 1 : 2;  ///< thread blocks on a multiprocessor
};

/// One call's arguments.
template <class T, class O, class Arguments>
struct forward_call {
    const T *queries, *keys, *values;
    index query_stride, key_stride, value_stride;
    O* out;
    index out_stride;
    statistic_view<float> lse;
    const attention_segment* segments;
    const attention_block* blocks;
    pattern_values<Arguments> arguments;
    score_numbers numbers;
    int group;
    bool merge;
};

template <class F, int HeadDim, class Score, int Capacity>
struct forward_memory {
    using shape = forward_shape<F, HeadDim, Score>;
    using element = typename tile::operands<F>::element;
    using query_tile = tile::shared_tile<element, shape::queries, shape::width>;
    using key_tile = tile::shared_tile<element, shape::keys, shape::width>;
    using drawn = drop_bytes<shape::warp_rows, shape::keys>;
    static constexpr int queries = 0, keys = query_tile::size, values = keys + key_tile::size, drop = values + key_tile::size;
    static constexpr int block = drop + (Score::dropout ? shape::warps * drawn::size : 0);
    static constexpr int size = block + int{sizeof(block_memory<Capacity>)};
};

template <class Pattern, int HeadDim, class Score, class F, class T, class O>
__global__ void __launch_bounds__(forward_shape<F, HeadDim, Score>::threads, forward_shape<F, HeadDim, Score>::resident)
    attention_forward(const __grid_constant__ forward_call<T, O, typename Pattern::arguments> c) {
    using shape = forward_shape<F, HeadDim, Score>;
    using ops = tile::operands<F>;
    constexpr int capacity = key_capacity<Pattern>;
    using memory = forward_memory<F, HeadDim, Score, capacity>;
    constexpr int row_tiles = shape::row_tiles, key_blocks = shape::keys / 8, width_blocks = shape::width / 8, depth = ops::depth;
    constexpr int unrolled = !shape::wide ? 16 : shape::width <= 128 ? 2 : 1;  // parts of floats fill registers; loads of them must not run ahead
    extern __shared__ __align__(16) unsigned char shared[];

    const attention_block block = c.blocks[1 + blockIdx.x];
    if (block.segment < 0) return;
    const index head = blockIdx.y, first_row = static_cast<index>(block.block) * shape::queries;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = tile::lane_id(), g = lane / 4, t = lane % 4;
    const int warp_row = warp * shape::warp_rows;
    const std::uint32_t base = ptx::shared_address(shared);
    const typename memory::query_tile query_tile{base};
    const typename memory::key_tile key_tile{base + memory::keys}, value_tile{base + memory::values};
    auto& kept = *reinterpret_cast<block_memory<capacity>*>(shared + memory::block);
    const attention_segment& s = kept.segment;
    int live_rows;
    {
        const attention_segment from = c.segments[block.segment];
        live_rows = static_cast<int>(from.query_count - first_row < shape::queries ? from.query_count - first_row : shape::queries);
        tile::copy_rows<shape::threads, HeadDim>(query_tile, c.queries + (from.query_begin + first_row) * c.query_stride + head * HeadDim,
                                                 c.query_stride, live_rows);
        if (threadIdx.x == 0) {
            const index first_query = from.query_position + first_row;
            kept.segment = from;
            kept.column = static_cast<int>(blockIdx.y) / c.group * HeadDim;
            list_key_runs<Pattern, shape::keys>(kept.runs, c.arguments, from.ordinal, {first_query, first_query + live_rows},
                                                {from.key_position, from.key_position + from.key_count});
        }
    }
    __syncthreads();

    const auto copy_keys = [&](const typename memory::key_tile& to, const T* from, index stride, int at) {
        const index first = static_cast<index>(at) * shape::keys, left = s.key_count - first;
        tile::copy_rows<shape::threads, HeadDim>(to, from + (s.key_begin + first) * stride + kept.column, stride,
                                                 static_cast<int>(left < shape::keys ? left : shape::keys));
    };
    auto at = run_place<capacity>::begin(kept.runs);
    if (at.live) copy_keys(key_tile, c.keys, c.key_stride, at.tile);
    ptx::commit_copies();

    const score_rule<Score, F> rule(c.numbers, head);
    const float factor = rule.factor();
    philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();
    const auto queries_left = ops::left_view(query_tile.from(warp_row), lane);
    const auto keys_right = ops::right_view(key_tile, lane);
    const auto values_right = ops::right_transposed_view(value_tile, lane);
    float out[row_tiles][width_blocks][4] = {};
    float peak[row_tiles][2], total[row_tiles][2];
    for (int m = 0; m < row_tiles; ++m)
        for (int h = 0; h < 2; ++h) peak[m][h] = -std::numeric_limits<float>::infinity(), total[m][h] = 0;

    while (at.live) {
        ptx::wait_copies<0>();
        __syncthreads();  // keys are here, and nobody reads the last values
        copy_keys(value_tile, c.values, c.value_stride, at.tile);
        ptx::commit_copies();

        const auto q_view = queries_left.afresh();
        const auto k_view = keys_right.afresh(), v_view = values_right.afresh();
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

        const index first = static_cast<index>(at.tile) * shape::keys;
        const int live_keys = static_cast<int>(s.key_count - first < shape::keys ? s.key_count - first : shape::keys);
        const index key_position = s.key_position + first, first_query = s.query_position + first_row;
        if constexpr (!score_rule<Score, F>::plain) {
            const int apart = static_cast<int>(first_query + warp_row - key_position) + g - 2 * t;
#pragma unroll
            for (int m = 0; m < row_tiles; ++m)
#pragma unroll
                for (int n = 0; n < key_blocks; ++n)
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const float distance = static_cast<float>(apart + 16 * m + e / 2 * 8 - 8 * n - e % 2);
                        score[m][n][e] = rule.placed(rule.capped(score[m][n][e]), distance);
                    }
        }
        if (at.partial || live_keys < shape::keys) {
            row_masks<shape::warp_rows, shape::keys / 32> masks;
#pragma unroll
            for (int w = 0; w < shape::keys / 32; ++w) {
                masks.word[w] = bits_of({0, live_keys}, 32 * w);
                if (at.partial) {
                    masks.word[w] &= Pattern::key_bits(c.arguments(), s.ordinal, first_query + warp_row + lane % shape::warp_rows, key_position + 32 * w);
                }
            }
            std::uint32_t seen[row_tiles][2][shape::keys / 32];
            masks.spread(seen);
            hide(score, seen);
        }
        at.advance(kept.runs);
        ptx::wait_copies<0>();
        __syncthreads();  // values are here, and nobody reads these keys any more
        if (at.live) copy_keys(key_tile, c.keys, c.key_stride, at.tile);
        ptx::commit_copies();

        bool moved = false;
        float shrink[row_tiles][2];
#pragma unroll
        for (int m = 0; m < row_tiles; ++m)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                float top = score[m][0][2 * h];
#pragma unroll
                for (int n = 0; n < key_blocks; ++n) top = fmaxf(top, fmaxf(score[m][n][2 * h], score[m][n][2 * h + 1]));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 1));
                top = fmaxf(top, __shfl_xor_sync(~0u, top, 2)) * factor;
                const bool grown = top > peak[m][h] + 8.0f;
                shrink[m][h] = grown ? ptx::exp2_fast(peak[m][h] - top) : 1.0f;
                peak[m][h] = grown ? top : peak[m][h];
                moved = moved || grown;
            }
        if (__any_sync(~0u, moved)) {
#pragma unroll
            for (int m = 0; m < row_tiles; ++m)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    total[m][h] *= shrink[m][h];
#pragma unroll
                    for (int d = 0; d < width_blocks; ++d) out[m][d][2 * h] *= shrink[m][h], out[m][d][2 * h + 1] *= shrink[m][h];
                }
        }
        typename memory::drawn drawn;
        if constexpr (Score::dropout) {
            drawn.draw(base + memory::drop + warp * memory::drawn::size, drop_key, s.document, c.numbers.first_head + head, first_query + warp_row, key_position);
        }
#pragma unroll
        for (int m = 0; m < row_tiles; ++m)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                // A row that has seen nothing keeps a peak of −∞: its exponents are measured from 0, and are −∞ too.
                const float from = peak[m][h] == -std::numeric_limits<float>::infinity() ? 0.0f : peak[m][h];
                float sum = 0;
#pragma unroll
                for (int n = 0; n < key_blocks; ++n)
#pragma unroll
                    for (int e = 2 * h; e < 2 * h + 2; ++e) {
                        float p = ptx::exp2_fast(fmaf(score[m][n][e], factor, -from));
                        sum += p;
                        if constexpr (Score::dropout) {
                            p = drawn.of(16 * m + 8 * h + g, 8 * n + 2 * t + e % 2) >= c.numbers.drop_threshold ? p : 0.0f;
                        }
                        score[m][n][e] = p;
                    }
                total[m][h] += sum;
            }

#pragma unroll
        for (int k = 0; k < shape::keys; k += depth) {
            typename ops::left p[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) p[m] = ops::from_sums(score[m], k / depth);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right v = ops::load_right_transposed(v_view, k, 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(out[m][d], p[m], v, 0);
                    ops::multiply(out[m][d + 1], p[m], v, 1);
                }
            }
        }
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int m = 0; m < row_tiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float sum = total[m][h], top = peak[m][h], weight = 1;  // of what was summed, in units of exp2(top)
            sum += __shfl_xor_sync(~0u, sum, 1);
            sum += __shfl_xor_sync(~0u, sum, 2);
            const int row_here = warp_row + 16 * m + 8 * h + g;
            const index row = s.query_begin + first_row + row_here;
            const bool mine = row_here < live_rows;
            if constexpr (Score::sink) {
                if (!c.merge) {
                    const float sink = c.numbers.sinks[head] * static_cast<float>(log2_e);
                    const float both = fmaxf(sink, top);
                    if (both > -std::numeric_limits<float>::infinity()) {
                        weight = exp2f(top - both);
                        sum = fmaf(sum, weight, exp2f(sink - both));
                        top = both;
                    }
                }
            }
            const bool saw = sum > 0;
            float inverse = saw ? weight / sum : 0.0f;
            float log_sum = saw ? static_cast<float>((static_cast<double>(top) + static_cast<double>(log2f(sum))) * ln_2)
                                : -std::numeric_limits<float>::infinity();
            float other = 0;  // share of what out held before
            if (c.merge && mine) {
                const float before = c.lse(row, head), most = fmaxf(before, log_sum);
                if (most > -std::numeric_limits<float>::infinity()) {
                    const float both = most + logf(expf(before - most) + expf(log_sum - most));
                    other = expf(before - both);
                    inverse *= expf(log_sum - both);
                    log_sum = both;
                }
            }
            __syncwarp();  // all four lanes have read what one of them replaces
            if constexpr (Score::dropout) inverse *= c.numbers.keep_scale;
            if (!mine) continue;
            if (t == 0) c.lse(row, head) = log_sum;
            O* const to = c.out + row * c.out_stride + head * HeadDim + 2 * t;
#pragma unroll
            for (int d = 0; d < width_blocks; ++d) {
                if (8 * d >= HeadDim) continue;
                float low = out[m][d][2 * h] * inverse, high = out[m][d][2 * h + 1] * inverse;
                if (other != 0) low = fmaf(to_compute(to[8 * d]), other, low), high = fmaf(to_compute(to[8 * d + 1]), other, high);
                store_pair(to + 8 * d, low, high);
            }
        }
}

}  // namespace longspan::cuda::detail

namespace longspan::cuda {

template <pattern Pattern, index HeadDim, class Score>
template <class Q, class K, class V, storage_format O>
void attention<Pattern, HeadDim, Score>::forward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                 std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                                                 const score_arguments& score_values, matrix_view<O> out, statistic_view<float> lse,
                                                 std::byte* /*workspace*/, bool merge) {
    using namespace detail;
    static_assert(same_storage<Q, K, V>, "cuda attention: queries, keys and values are stored alike, as float, bf16 or fp16");
    using T = std::remove_const_t<Q>;
    using F = operand_of<T, typename Score::rounding>;
    using shape = forward_shape<F, int{HeadDim}, Score>;
    using memory = forward_memory<F, int{HeadDim}, Score, key_capacity<Pattern>>;
    constexpr const char* op = "attention forward";
    const index heads = expect_attention(op, HeadDim, queries, keys, values, out, lse, segments);
    const score_numbers numbers = numbers_of<Score>(op, score_values, HeadDim);
    if (segments.empty() || queries.rows == 0) return;
    const index count = static_cast<index>(segments.size());
    const schedule_layout at = schedule_of(queries.rows, keys.rows, count);
    static_assert(shape::queries == short_block || shape::queries == long_block);
    const bool longer = shape::queries == long_block;
    const forward_call<T, O, arguments> call{queries.data, keys.data, values.data, queries.stride, keys.stride, values.stride, out.data,
                                             out.stride, lse, segments.data(), schedule_at(segments, longer ? at.long_queries : at.short_queries),
                                             pattern_arguments, numbers, static_cast<int>(heads / (keys.columns / HeadDim)), merge};
    const auto kernel = attention_forward<Pattern, int{HeadDim}, Score, F, T, O>;
    allow_shared(kernel, memory::size, op);
    const dim3 grid(static_cast<unsigned>(most_blocks(queries.rows, count, shape::queries)), static_cast<unsigned>(heads));
    kernel<<<grid, shape::threads, memory::size, stream>>>(call);
    check_launch(op);
}

}  // namespace longspan::cuda
