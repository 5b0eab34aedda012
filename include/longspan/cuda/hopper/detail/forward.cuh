// SPDX-License-Identifier: Apache-2.0
//
// The launch of Hopper's attention forward.
#pragma once

#include <algorithm>

#include <longspan/cuda/hopper/detail/forward_kernel.cuh>
#include <longspan/cuda/hopper/detail/tensor_map.cuh>

namespace longspan::cuda::hopper::detail {

/// Whether a block of queries, however far from the beginning, sees few keys.
template <class Pattern>
[[nodiscard]] constexpr bool local_pattern() {
    if constexpr (std::is_empty_v<typename Pattern::arguments>) {
        constexpr index far = index{1} << 40, few = 16384;
        const auto seen = Pattern::keys({}, 0, {far, far + 128}).any;
        index keys = 0;
        for (int i = 0; i < seen.count; ++i) keys += seen.items[i].end - seen.items[i].begin < few ? seen.items[i].length() : few;
        return keys < few;
    } else {
        return false;
    }
}

[[nodiscard]] inline int multiprocessors(const char* op) {
    int device = 0, count = 0;
    check(cudaGetDevice(&device), op);
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), op);
    return count;
}

}  // namespace longspan::cuda::hopper::detail

namespace longspan::cuda::hopper {

template <pattern Pattern, index HeadDim, class Score>
template <class Q, class K, class V, storage_format O>
void attention<Pattern, HeadDim, Score>::forward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                                                 std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                                                 const score_arguments& score_values, matrix_view<O> out, statistic_view<float> lse, bool merge) {
    using namespace detail;
    namespace base = longspan::cuda::detail;
    static_assert(base::same_storage<Q, K, V> && sizeof(Q) == 2, "hopper attention: queries, keys and values are stored alike, as bf16 or fp16");
    using T = std::remove_const_t<Q>;
    using shape = forward_shape<int{HeadDim}>;
    using memory = forward_memory<int{HeadDim}>;
    constexpr const char* op = "hopper attention forward";
    const index heads = base::expect_attention(op, HeadDim, queries, keys, values, out, lse, segments);
    const base::score_numbers numbers = base::numbers_of<Score>(op, score_values, HeadDim);
    if (segments.empty() || queries.rows == 0) return;
    const index count = static_cast<index>(segments.size());
    const base::schedule_layout at = base::schedule_of(queries.rows, keys.rows, count);
    static_assert(shape::queries == base::long_block);
    const forward_call<O, arguments> call{make_tensor_map(op, queries, 64, int{HeadDim}),
                                          make_tensor_map(op, keys, shape::keys, int{HeadDim}),
                                          make_tensor_map(op, values, shape::keys, int{HeadDim}),
                                          out.data,
                                          out.stride,
                                          lse,
                                          segments.data(),
                                          base::schedule_at(segments, at.long_queries),
                                          pattern_arguments,
                                          numbers,
                                          static_cast<int>(heads / (keys.columns / HeadDim)),
                                          static_cast<int>(heads),
                                          merge};
    const auto kernel = attention_forward<Pattern, int{HeadDim}, Score, T, O>;
    base::allow_shared(kernel, memory::size, op);
    // Where no block of queries sees many keys, each multiprocessor walks its share of blocks; else the longest start first, as
    // multiprocessors become free.
    index grid = base::most_blocks(queries.rows, count, shape::queries) * heads;
    if (local_pattern<Pattern>()) grid = std::min(grid, index{multiprocessors(op)});
    kernel<<<static_cast<unsigned>(grid), shape::threads, memory::size, stream>>>(call);
    check_launch(op);
}

}  // namespace longspan::cuda::hopper
