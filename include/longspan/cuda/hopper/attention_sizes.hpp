// SPDX-License-Identifier: Apache-2.0
//
// Memory of Hopper's attention (cuda/hopper/attention.cuh), as constants that plans are made of. No CUDA header.
#pragma once

#include <cstdint>

#include <longspan/cuda/attention_sizes.hpp>

namespace longspan::cuda::hopper {

namespace detail {

/// Of each query and head: log-sum-exp and delta, a mark of who added to its dQ last, and the sums of dQ; parts of the sinks'
/// gradients; the counter that hands out work.
struct backward_layout {
    bytes marks, dq_sums, sink_parts, counter, size;
};
[[nodiscard]] constexpr backward_layout backward_layout_of(index query_tokens, index heads, index head_dim) {
    const index rows = query_tokens * heads;
    const auto after = [](bytes begin, bytes size) { return begin + round_up(size, workspace_alignment); };
    backward_layout at{};
    at.marks = after(0, rows * bytes{2 * sizeof(float)});
    at.dq_sums = after(at.marks, rows * bytes{sizeof(std::int32_t)});
    at.sink_parts = after(at.dq_sums, rows * head_dim * bytes{sizeof(float)});
    at.counter = after(at.sink_parts, heads * cuda::detail::sink_parts * bytes{sizeof(double)});
    at.size = after(at.counter, 4);
    return at;
}

}  // namespace detail

/// Scratch of the backward. Where the portable kernels stand in (a pattern whose two sides name different tiles), theirs fits too.
[[nodiscard]] constexpr bytes attention_backward_workspace(index query_tokens, index heads, index key_heads, index head_dim) {
    const bytes own = detail::backward_layout_of(query_tokens, heads, head_dim).size;
    const bytes portable = cuda::attention_backward_workspace(query_tokens, heads, key_heads, head_dim);
    return own > portable ? own : portable;
}

}  // namespace longspan::cuda::hopper
