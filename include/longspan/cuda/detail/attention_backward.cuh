// SPDX-License-Identifier: Apache-2.0
//
// The backward of attention: each query's log-sum-exp and delta = Σ dO · O side by side in the workspace; then dQ by blocks of
// queries, dK and dV by blocks of keys; and for sinks, which take probability and give nothing, d sink = −Σ p(sink) · delta.
#pragma once

#include <longspan/cuda/detail/attention_key_gradients.cuh>
#include <longspan/cuda/detail/attention_query_gradients.cuh>

namespace longspan::cuda::detail {

/// 8 elements as floats; 16-byte loads.
template <class T>
__device__ __forceinline__ void load_eight(const T* from, float (&to)[8]) {
    if constexpr (sizeof(T) == 4) {
        const float4 low = *reinterpret_cast<const float4*>(from), high = *reinterpret_cast<const float4*>(from + 4);
        to[0] = low.x, to[1] = low.y, to[2] = low.z, to[3] = low.w, to[4] = high.x, to[5] = high.y, to[6] = high.z, to[7] = high.w;
    } else {
        const uint4 raw = *reinterpret_cast<const uint4*>(from);
        const std::uint32_t word[4] = {raw.x, raw.y, raw.z, raw.w};
        for (int i = 0; i < 8; ++i) to[i] = to_compute(T::from_bits(static_cast<std::uint16_t>(word[i / 2] >> (16 * (i % 2)))));
    }
}

template <int HeadDim>
struct statistics_shape {
    static constexpr int lanes = HeadDim <= 8 ? 1 : HeadDim <= 16 ? 2 : HeadDim <= 32 ? 4 : HeadDim <= 64 ? 8 : HeadDim <= 128 ? 16 : 32;
    static constexpr int threads = 256, rows = threads / lanes;  ///< a row: one query of one head
};

template <int HeadDim, class DO, class O>
__global__ void __launch_bounds__(256)
    attention_statistics(matrix_view<DO> d_out, matrix_view<O> out, statistic_view<const float> lse, statistic_view<const float> delta,
                         float2* statistics, std::int32_t* marks, unsigned* counter) {
    using shape = statistics_shape<HeadDim>;
    const index heads = lse.heads;
    const index at = static_cast<index>(blockIdx.x) * shape::rows + threadIdx.x / shape::lanes;
    const int part = static_cast<int>(threadIdx.x) % shape::lanes;
    const bool live = at < lse.rows * heads;
    const index row = live ? at / heads : 0, head = live ? at % heads : 0;
    float sum = 0;
    if (delta.data == nullptr && live && part * 8 < HeadDim) {
        float a[8], b[8];
        load_eight(d_out.row(row) + head * HeadDim + part * 8, a);
        load_eight(out.row(row) + head * HeadDim + part * 8, b);
        for (int i = 0; i < 8; ++i) sum = fmaf(a[i], b[i], sum);
    }
    for (int step = shape::lanes / 2; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    if (at == 0 && part == 0) *counter = 0;
    if (!live || part != 0) return;
    marks[head * lse.rows + row] = -1;
    const float seen = lse(row, head), infinity = std::numeric_limits<float>::infinity();
    // Nothing seen: an exponent of −∞ for every key.
    statistics[head * lse.rows + row] = make_float2(seen == -infinity ? infinity : static_cast<float>(static_cast<double>(seen) * log2_e),
                                                    delta.data != nullptr ? delta(row, head) : sum);
}

/// Grid [sink_parts, heads]: the share of every sink_parts-th block of queries.
template <int = 0>
__global__ void __launch_bounds__(64) sink_gradient_parts(const float2* statistics, index query_tokens, const attention_segment* segments,
                                                          const attention_block* blocks, const float* sinks, double* parts) {
    const index head = blockIdx.y;
    const int total = blocks[0].block;
    const double sink = static_cast<double>(sinks[head]) * log2_e;
    double sum = 0;
    for (int i = static_cast<int>(blockIdx.x); i < total; i += int{sink_parts}) {
        const attention_block block = blocks[1 + i];
        const attention_segment& s = segments[block.segment];
        const index row = static_cast<index>(block.block) * short_block + threadIdx.x;
        if (row >= s.query_count) continue;
        const float2 of_query = statistics[head * query_tokens + s.query_begin + row];
        // +∞: saw nothing, with a sink of −∞.
        if (of_query.x < std::numeric_limits<float>::infinity()) sum -= exp2(sink - static_cast<double>(of_query.x)) * static_cast<double>(of_query.y);
    }
    for (int step = 16; step > 0; step /= 2) sum += __shfl_xor_sync(~0u, sum, step);
    __shared__ double second;
    if (threadIdx.x == 32) second = sum;
    __syncthreads();
    if (threadIdx.x == 0) parts[head * sink_parts + blockIdx.x] = sum + second;
}
template <int = 0>
__global__ void __launch_bounds__(64) sink_gradient_sums(const double* parts, index heads, float* d_sinks) {
    const index head = static_cast<index>(blockIdx.x) * 64 + threadIdx.x;
    if (head >= heads) return;
    double sum = 0;
    for (index i = 0; i < sink_parts; ++i) sum += parts[head * sink_parts + i];
    d_sinks[head] += static_cast<float>(sum);
}

}  // namespace longspan::cuda::detail

namespace longspan::cuda {

template <pattern Pattern, index HeadDim, class Score>
template <class Q, class K, class V, class DO, class O, storage_format D>
void attention<Pattern, HeadDim, Score>::backward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                  std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                                                  const score_arguments& score_values, matrix_view<DO> d_out, matrix_view<O> out,
                                                  statistic_view<const float> lse, statistic_view<const float> delta, matrix_view<D> dq,
                                                  matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys, float* d_sinks, std::byte* workspace) {
    using namespace detail;
    static_assert(same_storage<Q, K, V> && same_storage<Q, DO, Q>,
                  "cuda attention: queries, keys, values and d_out are stored alike, as float, bf16 or fp16");
    using T = std::remove_const_t<Q>;
    using F = operand_of<T, typename Score::rounding>;
    constexpr int width = int{HeadDim};
    constexpr const char* op = "attention backward";
    const index heads = expect_attention(op, HeadDim, queries, keys, values, out, lse, segments), key_heads = keys.columns / HeadDim;
    expect_view(op, "d_out", d_out, queries.rows, queries.columns, 16);
    expect_view(op, "dq", dq, queries.rows, queries.columns, 2 * sizeof(D));
    expect_view(op, "dk", dk, keys.rows, keys.columns, 2 * sizeof(D));
    expect_view(op, "dv", dv, keys.rows, keys.columns, 2 * sizeof(D));
    expects(delta.data == nullptr || (delta.rows == lse.rows && delta.heads == lse.heads),
            [] { return "attention backward: expected delta of the same shape as lse"; });
    const score_numbers numbers = numbers_of<Score>(op, score_values, HeadDim);
    if (segments.empty()) return;
    expect_pointer(op, "workspace", workspace, workspace_alignment);

    const index count = static_cast<index>(segments.size());
    const schedule_layout at = schedule_of(queries.rows, keys.rows, count);
    constexpr bool all = all_together<Pattern, F, width, Score>;
    using of_queries = query_gradient_shape<F, width, Score>;
    using of_keys = key_gradient_shape<F, width, Score, query_capacity<Pattern>, all>;
    const backward_layout room = backward_layout_of(queries.rows, heads, HeadDim);
    float2* const statistics = reinterpret_cast<float2*>(workspace);
    std::int32_t* const marks = reinterpret_cast<std::int32_t*>(workspace + room.marks);
    unsigned* const counter = reinterpret_cast<unsigned*>(workspace + room.counter);
    using of_rows = statistics_shape<width>;
    attention_statistics<width><<<static_cast<unsigned>(ceil_div(queries.rows * heads, of_rows::rows) + 1), of_rows::threads, 0, stream>>>(
        d_out, out, lse, delta, statistics, marks, counter);
    check_launch(op);
    const int query_block = all ? of_keys::queries : of_queries::queries;
    const attention_block* const query_blocks = schedule_at(segments, query_block == long_block ? at.long_queries : at.short_queries);
    const backward_call<T, D, arguments> call{
        queries.data, keys.data, values.data, d_out.data, queries.stride, keys.stride, values.stride, d_out.stride, dq.data, dk.data, dv.data,
        dq.stride, dk.stride, dv.stride, statistics, reinterpret_cast<float*>(workspace + room.dq_sums), marks, counter, queries.rows,
        segments.data(), query_blocks, schedule_at(segments, all ? at.long_keys : at.short_keys), pattern_arguments, numbers,
        static_cast<int>(heads / key_heads), add_keys == accumulate::yes};
    if (keys.rows > 0) {
        using memory = key_gradient_memory<F, width, Score, query_capacity<Pattern>, all>;
        const auto kernel = attention_key_gradients<Pattern, width, Score, F, T, D, all>;
        allow_shared(kernel, memory::size, op);
        const dim3 grid(static_cast<unsigned>(most_blocks(keys.rows, count, of_keys::keys)), static_cast<unsigned>(key_heads));
        kernel<<<grid, of_keys::threads, memory::size, stream>>>(call);
        check_launch(op);
    }
    if (queries.rows == 0) return;
    const unsigned blocks = static_cast<unsigned>(most_blocks(queries.rows, count, query_block));
    if constexpr (all) {
        clear_unseen<Pattern><<<blocks, 128, 0, stream>>>(dq, segments.data(), query_blocks, pattern_arguments, query_block, of_keys::keys);
        check_launch(op);
    } else {
        using memory = query_gradient_memory<F, width, Score, key_capacity<Pattern>>;
        const auto kernel = attention_query_gradients<Pattern, width, Score, F, T, D>;
        allow_shared(kernel, memory::size, op);
        kernel<<<dim3(blocks, static_cast<unsigned>(heads)), of_queries::threads, memory::size, stream>>>(call);
        check_launch(op);
    }
    if constexpr (Score::sink) {
        if (d_sinks == nullptr) return;
        double* const parts = reinterpret_cast<double*>(workspace + room.sink_parts);
        sink_gradient_parts<><<<dim3(static_cast<unsigned>(sink_parts), static_cast<unsigned>(heads)), 64, 0, stream>>>(
            statistics, queries.rows, segments.data(), schedule_at(segments, at.short_queries), score_values.sinks, parts);
        check_launch(op);
        sink_gradient_sums<><<<static_cast<unsigned>(ceil_div(heads, 64)), 64, 0, stream>>>(parts, heads, d_sinks);
        check_launch(op);
    }
}

}  // namespace longspan::cuda
