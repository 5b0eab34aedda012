// SPDX-License-Identifier: Apache-2.0
//
// Attention's memory on the device (cuda/attention.cuh), as constants that plans are made of. No CUDA header.
#pragma once

#include <cstdint>
#include <initializer_list>

#include <longspan/core/attention_segment.hpp>
#include <longspan/core/types.hpp>
#include <longspan/cuda/gemm_sizes.hpp>

namespace longspan::cuda {

using longspan::attention_segment, longspan::score;

namespace detail {

/// Rows of a block of work: kernels take one of these, of keys short or long ones.
inline constexpr index short_block = 64, long_block = 128, wide_block = 192;

/// A place in the schedule: a segment and which of its blocks; segment -1 behind the last.
struct attention_block {
    std::int32_t segment = -1, block = 0;
};

/// Blocks that `segments` segments of `tokens` tokens in all can make: one more than they fill for each ragged end.
[[nodiscard]] constexpr index most_blocks(index tokens, index segments, index block) { return tokens / block + segments; }

/// Parts that a head's sink gradient is cut into: a constant of the arithmetic.
inline constexpr index sink_parts = 32;

// Behind the segments: for each size of blocks, those of the queries and those of the keys, each list led by its length; and for each
// list what it is sorted by.
struct schedule_layout {
    bytes short_queries, long_queries, wide_queries, short_keys, long_keys, counts, size;
};
/// Numbers that sorting a list takes: three for each length that a segment can have, in blocks, and one for each segment.
[[nodiscard]] constexpr index schedule_counts(index tokens, index segments, index block) {
    return 3 * (most_blocks(tokens, segments, block) + 2) + segments;
}

[[nodiscard]] constexpr schedule_layout schedule_of(index query_tokens, index key_tokens, index segments) {
    const auto list = [&](index tokens, index block) {
        return round_up((most_blocks(tokens, segments, block) + 1) * bytes{sizeof(attention_block)}, 16);
    };
    schedule_layout at{};
    at.short_queries = round_up(segments * bytes{sizeof(attention_segment)}, 16);
    at.long_queries = at.short_queries + list(query_tokens, short_block);
    at.wide_queries = at.long_queries + list(query_tokens, long_block);
    at.short_keys = at.wide_queries + list(query_tokens, wide_block);
    at.long_keys = at.short_keys + list(key_tokens, short_block);
    at.counts = at.long_keys + list(key_tokens, long_block);
    index counts = 0;
    for (const index block : {short_block, long_block, wide_block}) counts += schedule_counts(query_tokens, segments, block);
    for (const index block : {short_block, long_block}) counts += schedule_counts(key_tokens, segments, block);
    at.size = round_up(at.counts + counts * bytes{sizeof(std::int32_t)}, workspace_alignment);
    return at;
}

struct backward_layout {
    bytes marks, dq_sums, sink_parts, counter, size;
};
[[nodiscard]] constexpr backward_layout backward_layout_of(index query_tokens, index heads, index head_dim) {
    const index rows = query_tokens * heads;
    const auto after = [](bytes begin, bytes size) { return begin + round_up(size, workspace_alignment); };
    backward_layout at{};
    at.marks = after(0, rows * bytes{2 * sizeof(float)});
    at.dq_sums = after(at.marks, rows * bytes{sizeof(std::int32_t)});
    at.sink_parts = after(at.dq_sums, head_dim > 128 ? 0 : rows * round_up(head_dim, 32) * bytes{sizeof(float)});
    at.counter = after(at.sink_parts, heads * sink_parts * bytes{sizeof(double)});
    at.size = after(at.counter, 4);
    return at;
}

}  // namespace detail

/// Bytes of `segments` segments over sets of so many queries and keys, and of the schedule that kernels find their work by.
[[nodiscard]] constexpr bytes attention_segment_memory(index query_tokens, index key_tokens, index segments) {
    return detail::schedule_of(query_tokens, key_tokens, segments).size;
}
/// The same for self-attention.
[[nodiscard]] constexpr bytes attention_segment_memory(index tokens, index segments) {
    return attention_segment_memory(tokens, tokens, segments);
}

/// Scratch of the backward: of each query and head its log-sum-exp, its delta, a mark and a float of dQ for each element; parts
/// of the sinks' gradients.
[[nodiscard]] constexpr bytes attention_backward_workspace(index query_tokens, index heads, [[maybe_unused]] index key_heads, index head_dim) {
    return detail::backward_layout_of(query_tokens, heads, head_dim).size;
}

}  // namespace longspan::cuda
