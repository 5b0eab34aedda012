// SPDX-License-Identifier: Apache-2.0
//
// The launch of Hopper's attention forward.
#pragma once

#include <algorithm>

#include <longspan/cuda/hopper/detail/forward_kernel.cuh>

namespace longspan::cuda::hopper {

template <pattern Pattern, index HeadDim, class Score, sums Sums>
template <class Q, class K, class V, storage_format O>
void attention<Pattern, HeadDim, Score, Sums>::forward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                 std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                                                 const score_arguments& score_values, matrix_view<O> out, statistic_view<float> lse,
                                                 std::byte* workspace, bool merge) {
    using namespace detail;
    namespace base = longspan::cuda::detail;
    static_assert(base::same_storage<Q, K, V> && sizeof(Q) == 2, "hopper attention: queries, keys and values are stored alike, as bf16 or fp16");
    using T = std::remove_const_t<Q>;
    using walked = walked_pattern<Pattern, Score>;
    constexpr int step = step_of<walked>;
    using shape = forward_shape<walked, int{HeadDim}, Score::dropout>;
    using memory = forward_memory<walked, int{HeadDim}, Score::dropout>;
    constexpr const char* op = "hopper attention forward";
    const index heads = base::expect_attention(op, HeadDim, queries, keys, values, out, lse, segments), key_heads = keys.columns / HeadDim;
    const base::score_numbers numbers = base::numbers_of<Score>(op, score_values, HeadDim);
    expect_countable(op, queries.rows, keys.rows, heads);
    if (segments.empty() || queries.rows == 0) return;
    expect_pointer(op, "workspace", workspace, workspace_alignment);
    const index count = static_cast<index>(segments.size()), group = heads / key_heads;
    const base::schedule_layout at = base::schedule_of(queries.rows, keys.rows, count);
    static_assert(shape::queries == base::long_block || shape::queries == base::wide_block);
    unsigned* const counter = reinterpret_cast<unsigned*>(workspace);
    check(cudaMemsetAsync(counter, 0, sizeof(unsigned), stream), op);
    const int together = static_cast<int>(group) * heads_together(keys.rows * HeadDim * bytes{2 * sizeof(T)}, key_heads);
    const base::attention_block* const blocks = base::schedule_at(segments, shape::queries == base::wide_block ? at.wide_queries : at.long_queries);
    const forward_call<O, walked> call{make_row_maps<step>(op, queries, 64, int{HeadDim}),
                                       make_row_maps<step>(op, keys, shape::keys, int{HeadDim}),
                                       make_row_maps<step>(op, values, shape::keys, int{HeadDim}),
                                       out.data,
                                       out.stride,
                                       lse,
                                       segments.data(),
                                       {blocks, static_cast<int>(heads), together, counter},
                                       pattern_arguments,
                                       numbers,
                                       static_cast<int>(group),
                                       merge};
    const auto kernel = attention_forward<walked, int{HeadDim}, Score, T, O>;
    base::allow_shared(kernel, memory::size, op);
    const index items = base::most_blocks(queries.rows, count, shape::queries) * heads;
    const index grid = std::min(items, index{multiprocessors(op)});
    kernel<<<static_cast<unsigned>(grid), shape::threads, memory::size, stream>>>(call);
    check_launch(op);
}

}  // namespace longspan::cuda::hopper
