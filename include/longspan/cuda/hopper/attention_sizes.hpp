// SPDX-License-Identifier: Apache-2.0
//
// Memory of Hopper's attention (cuda/hopper/attention.cuh), as constants that plans are made of. No CUDA header.
#pragma once

#include <cstdint>

#include <longspan/cuda/attention_sizes.hpp>

namespace longspan::cuda::hopper {

namespace detail {

/// Room for sums of dQ: heads take turns in it where all of them need more.
inline constexpr bytes sums_room = bytes{1} << 30;

/// Heads whose sums there are at once: whole groups of one key/value head, at least one.
[[nodiscard]] constexpr index heads_at_once(index query_tokens, index heads, index key_heads, index head_dim) {
    const index group = heads / key_heads;
    const bytes of_group = query_tokens * group * head_dim * bytes{sizeof(float)};
    const index groups = of_group > 0 ? sums_room / of_group : key_heads;
    return group * (groups < 1 ? 1 : groups < key_heads ? groups : key_heads);
}

/// Of each query and head: log-sum-exp and delta, a mark of who added to its dQ last; the sums of dQ of as many heads as there are at
/// once; parts of the sinks' gradients; the counter that hands out work.
struct backward_layout {
    bytes marks, dq_sums, sink_parts, counter, size;
};
[[nodiscard]] constexpr backward_layout backward_layout_of(index query_tokens, index heads, index key_heads, index head_dim) {
    const index rows = query_tokens * heads;
    const auto after = [](bytes begin, bytes size) { return begin + round_up(size, workspace_alignment); };
    backward_layout at{};
    at.marks = after(0, rows * bytes{2 * sizeof(float)});
    at.dq_sums = after(at.marks, rows * bytes{sizeof(std::int32_t)});
    at.sink_parts = after(at.dq_sums, query_tokens * heads_at_once(query_tokens, heads, key_heads, head_dim) * head_dim * bytes{sizeof(float)});
    at.counter = after(at.sink_parts, heads * cuda::detail::sink_parts * bytes{sizeof(double)});
    at.size = after(at.counter, 4);
    return at;
}

}  // namespace detail

/// Scratch of the backward: 12 bytes of each query and head, and at most 1 GiB of sums (or what one key/value head needs). A forward finds
/// room in it too.
[[nodiscard]] constexpr bytes attention_backward_workspace(index query_tokens, index heads, index key_heads, index head_dim) {
    return detail::backward_layout_of(query_tokens, heads, key_heads, head_dim).size;
}

}  // namespace longspan::cuda::hopper
