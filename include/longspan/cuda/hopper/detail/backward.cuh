// SPDX-License-Identifier: Apache-2.0
//
// The launches of Hopper's attention backward: each query's log-sum-exp and delta side by side; the gradients, those of queries as
// sums of floats; the sums rounded into dq; the sinks' gradients.
#pragma once

#include <algorithm>

#include <longspan/cuda/detail/attention_backward.cuh>
#include <longspan/cuda/hopper/detail/backward_kernel.cuh>

namespace longspan::cuda::hopper::detail {

/// Rounds the sums of 64 queries of one head to dq; where there are marks, 0 where nobody has left one, since no key was seen.
template <int HeadDim, int Step, class D>
__global__ void __launch_bounds__(256)
    round_query_gradients(matrix_view<D> dq, const float* sums, const std::int32_t* marks, const attention_segment* segments,
                          const attention_block* blocks, float scale) {
    using shape = backward_shape<HeadDim>;
    const attention_block block = blocks[1 + blockIdx.x];
    if (block.segment < 0) return;
    const index begin = segments[block.segment].query_begin, left = segments[block.segment].query_count - static_cast<index>(block.block) * 64;
    const index first = begin + static_cast<index>(block.block) * 64, head = blockIdx.y;
    const bool seen =
        Step > 1 || marks == nullptr || marks[head * dq.rows + begin + static_cast<index>(block.block) * 64 / shape::queries * shape::queries] >= 0;
    constexpr int units = HeadDim / 4, each = 64 * units / 256;
    float4 sum[each];
#pragma unroll
    for (int k = 0; k < each; ++k) {
        const int i = static_cast<int>(threadIdx.x) + 256 * k, row = i / units, unit = i % units, half = unit / 16;
        bool live = row < left && seen;
        std::conditional_t<Step == 1, int, index> behind = row;
        if constexpr (Step > 1) {  // sums lie by class
            const row_classes<Step> classes{segments[block.segment].query_count};
            const unsigned place = static_cast<unsigned>(first - begin) + static_cast<unsigned>(row), of_class = place / Step;
            const index class_begin = begin + classes.begin(place % Step);
            live = live && (marks == nullptr || marks[head * dq.rows + class_begin + of_class / shape::queries * shape::queries] >= 0);
            behind = class_begin + of_class - first;
        }
        sum[k] = live ? __ldcs(reinterpret_cast<const float4*>(sums + ((head * index{HeadDim / 64} + half) * dq.rows + first + behind) * 64) + unit % 16)
                      : make_float4(0, 0, 0, 0);
    }
#pragma unroll
    for (int k = 0; k < each; ++k) {
        const int i = static_cast<int>(threadIdx.x) + 256 * k, row = i / units, unit = i % units, half = unit / 16;
        // A unit's place follows from its row within a tile.
        const int tile_row = Step == 1 ? row : static_cast<int>((static_cast<unsigned>(first - begin) + static_cast<unsigned>(row)) / Step);
        const int j = (unit % 16 / 4) ^ (tile_row & 1), t = unit % 4;
        if (row >= left) continue;
        D* const to = dq.row(first + row) + head * HeadDim + 64 * half + 16 * j + 2 * t;
        store_pair(to, sum[k].x * scale, sum[k].y * scale);
        store_pair(to + 8, sum[k].z * scale, sum[k].w * scale);
    }
}

}  // namespace longspan::cuda::hopper::detail

namespace longspan::cuda::hopper {

template <pattern Pattern, index HeadDim, class Score, sums Sums>
template <class Q, class K, class V, class DO, class O, storage_format D>
void attention<Pattern, HeadDim, Score, Sums>::backward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                  std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                                                  const score_arguments& score_values, matrix_view<DO> d_out, matrix_view<O> out,
                                                  statistic_view<const float> lse, statistic_view<const float> delta, matrix_view<D> dq,
                                                  matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys, float* d_sinks, std::byte* workspace) {
    using namespace detail;
    namespace base = longspan::cuda::detail;
    static_assert(base::same_storage<Q, K, V> && base::same_storage<Q, DO, Q> && sizeof(Q) == 2,
                  "hopper attention: queries, keys, values and d_out are stored alike, as bf16 or fp16");
    constexpr int width = int{HeadDim};
    using T = std::remove_const_t<Q>;
    using walked = walked_pattern<Pattern, Score>;
    constexpr int step = step_of<walked>;
    using shape = backward_shape<width>;
    using memory = backward_memory<width, walked, Score::dropout>;
    constexpr const char* op = "hopper attention backward";
    const index heads = base::expect_attention(op, HeadDim, queries, keys, values, out, lse, segments), key_heads = keys.columns / HeadDim;
    expect_view(op, "d_out", d_out, queries.rows, queries.columns, 16);
    expect_view(op, "dq", dq, queries.rows, queries.columns, 2 * sizeof(D));
    expect_view(op, "dk", dk, keys.rows, keys.columns, 2 * sizeof(D));
    expect_view(op, "dv", dv, keys.rows, keys.columns, 2 * sizeof(D));
    expects(delta.data == nullptr || (delta.rows == lse.rows && delta.heads == lse.heads),
            [] { return "hopper attention backward: expected delta of the same shape as lse"; });
    const base::score_numbers numbers = base::numbers_of<Score>(op, score_values, HeadDim);
    expect_countable(op, queries.rows, keys.rows, heads);
    if (segments.empty()) return;
    expect_pointer(op, "workspace", workspace, workspace_alignment);

    const index count = static_cast<index>(segments.size()), group = heads / key_heads;
    const base::schedule_layout at = base::schedule_of(queries.rows, keys.rows, count);
    const backward_layout room = backward_layout_of(queries.rows, heads, key_heads, HeadDim);
    float2* const statistics = reinterpret_cast<float2*>(workspace);
    float* const dq_sums = reinterpret_cast<float*>(workspace + room.dq_sums);
    std::int32_t* const marks = reinterpret_cast<std::int32_t*>(workspace + room.marks);
    unsigned* const counter = reinterpret_cast<unsigned*>(workspace + room.counter);
    using of_rows = base::statistics_shape<width>;
    base::attention_statistics<width><<<static_cast<unsigned>(ceil_div(queries.rows * heads, of_rows::rows) + 1), of_rows::threads, 0, stream>>>(
        d_out, out, lse, delta, statistics, marks, counter);
    check_launch(op);
    const base::attention_block* const query_blocks = base::schedule_at(segments, at.short_queries);
    const index together = heads_at_once(queries.rows, heads, key_heads, HeadDim);
    for (index first = 0; first < heads; first += together) {
        const index count_here = std::min(together, heads - first), key_count_here = count_here / group, first_key_head = first / group;
        const auto of_heads = [](const auto& view, index from, index number) {
            auto part = view;
            part.data += from * HeadDim, part.columns = number * HeadDim;
            return part;
        };
        const auto queries_here = of_heads(queries, first, count_here), d_out_here = of_heads(d_out, first, count_here);
        const auto keys_here = of_heads(keys, first_key_head, key_count_here), values_here = of_heads(values, first_key_head, key_count_here);
        base::score_numbers numbers_here = numbers;
        if (numbers_here.slopes != nullptr) numbers_here.slopes += first;
        if (first > 0) check(cudaMemsetAsync(counter, 0, sizeof(unsigned), stream), op);
        if constexpr (Sums == sums::nondeterministic) {
            const index size = queries.rows * count_here * HeadDim * index{sizeof(float)};
            check(cudaMemsetAsync(dq_sums, 0, static_cast<std::size_t>(size), stream), op);
        }
        if (keys.rows > 0) {
            const detail::backward_call<D, walked> call{
                make_row_maps<step>(op, queries_here, shape::queries, width),
                make_row_maps<step>(op, keys_here, shape::keys, width),
                make_row_maps<step>(op, values_here, shape::keys, width),
                make_row_maps<step>(op, d_out_here, shape::queries, width),
                dk.data + first_key_head * HeadDim,
                dv.data + first_key_head * HeadDim,
                dk.stride,
                dv.stride,
                statistics + first * queries.rows,
                dq_sums,
                marks + first * queries.rows,
                queries.rows,
                segments.data(),
                {base::schedule_at(segments, shape::keys == base::short_block ? at.short_keys : at.long_keys), static_cast<int>(key_count_here),
                 heads_together(queries.rows * HeadDim * group * bytes{2 * sizeof(T) + sizeof(float)}, key_count_here), counter},
                pattern_arguments,
                numbers_here,
                static_cast<int>(group),
                static_cast<int>(first + score_values.first_head),
                base::rising<walked> && group > 1,
                add_keys == accumulate::yes};
            const auto kernel = attention_backward<walked, width, Score, Sums, T, D>;
            base::allow_shared(kernel, memory::size, op);
            const index items = base::most_blocks(keys.rows, count, shape::keys) * key_count_here;
            kernel<<<static_cast<unsigned>(std::min(items, index{multiprocessors(op)})), shape::threads, memory::size, stream>>>(call);
            check_launch(op);
        }
        if (queries.rows == 0) continue;
        const dim3 grid(static_cast<unsigned>(base::most_blocks(queries.rows, count, base::short_block)), static_cast<unsigned>(count_here));
        const std::int32_t* const marks_here = Sums == sums::deterministic ? marks + first * queries.rows : nullptr;
        round_query_gradients<width, step><<<grid, 256, 0, stream>>>(of_heads(dq, first, count_here), dq_sums, marks_here, segments.data(), query_blocks,
                                                                     numbers.natural_scale);
        check_launch(op);
    }
    if (queries.rows == 0) return;
    if constexpr (Score::sink) {
        if (d_sinks == nullptr) return;
        double* const parts = reinterpret_cast<double*>(workspace + room.sink_parts);
        base::sink_gradient_parts<><<<dim3(static_cast<unsigned>(base::sink_parts), static_cast<unsigned>(heads)), 64, 0, stream>>>(
            statistics, queries.rows, segments.data(), query_blocks, score_values.sinks, parts);
        check_launch(op);
        base::sink_gradient_sums<><<<static_cast<unsigned>(ceil_div(heads, 64)), 64, 0, stream>>>(parts, heads, d_sinks);
        check_launch(op);
    }
}

}  // namespace longspan::cuda::hopper
