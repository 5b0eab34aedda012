// SPDX-License-Identifier: Apache-2.0
//
// recompute_every<k>: keep the stream at the start of every segment of k blocks and nothing else; in the backward pass run each
// segment forward once more, this time saving. recompute_root chooses k from the depth. store_all keeps everything.
//
// Memory: ⌈L/k⌉ + k streams and k blocks' saved tensors, for one more forward of all blocks but the last segment's. k = √L is
// the least sum of streams. Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
#pragma once

#include <longspan/checkpoint/segments.hpp>

namespace longspan {

namespace detail {

template <index K>
struct segment_of {
    static_assert(K >= 1, "recompute_every<k>: a segment has at least 1 block; to keep everything choose store_all");
    static constexpr index value = K;
};

}  // namespace detail

/// Everything that the backward pass reads is kept.
inline constexpr segment_policy<block_rule{.segment = 1, .kept_from = cost::pass}> store_all{};

/// The stream is kept at every K-th block, the rest recomputed.
template <index K>
inline constexpr segment_policy<block_rule{.segment = detail::segment_of<K>::value, .kept_from = cost::output}> recompute_every{};

/// recompute_every<k> with k about the square root of the depth: the fewest streams. The tensors which a segment saves grow with
/// k, so where those are wide (they are, beside a stream) recompute_every<1> takes less for the same work.
inline constexpr segment_policy<block_rule{.segment = block_rule::square_root, .kept_from = cost::output}> recompute_root{};

}  // namespace longspan
