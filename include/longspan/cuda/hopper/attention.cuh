// SPDX-License-Identifier: Apache-2.0
//
// Attention over packed documents on Hopper's tensor cores (sm_90a): the same functions as cuda/attention.cuh, which says what
// they do, for two-byte operands and heads of 64, 128 or 256.
//
// One warp copies tiles with the copy engine; two warpgroups or three multiply (wgmma), taking turns between tensor cores and exponentials.
// Only live tiles are visited, elements are tested only in partial tiles, by warps that do not multiply.
// Deterministic unless the type says otherwise: no sum depends on timing. Nothing allocates or waits; everything may be captured.
// References: Shah et al., "FlashAttention-3", arXiv:2407.08608; Spector et al., "ThunderKittens", arXiv:2410.20399.
#pragma once

#include <longspan/cuda/attention.cuh>
#include <longspan/cuda/hopper/attention_sizes.hpp>

namespace longspan::cuda::hopper {

/// How the blocks of keys add to dQ: in one order, which gives the same bits every time, or each as it comes, so that the last bits of
/// dQ differ from run to run.
enum class sums { deterministic, nondeterministic };

/// As cuda::attention, for bf16 and fp16. HeadDim: 64, 128 or 256.
template <pattern Pattern, index HeadDim, class Score = score<>, sums Sums = sums::deterministic>
struct attention {
    static_assert(HeadDim == 64 || HeadDim == 128 || HeadDim == 256, "hopper attention: a head is 64, 128 or 256 elements wide");
    static_assert(std::is_void_v<typename Score::rounding>, "hopper attention: operands are two-byte formats, which nothing rounds");
    using arguments = typename Pattern::arguments;

    /// Bytes of workspace of a forward: the counter by which work is handed out.
    [[nodiscard]] static constexpr bytes forward_workspace() { return workspace_alignment; }

    /// Writes out[tq, heads·HeadDim] and lse[tq, heads]; with `merge`, joins what they hold. `workspace`: forward_workspace() bytes at a
    /// multiple of 256.
    template <class Q, class K, class V, storage_format O>
    static void forward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                        std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                        const score_arguments& score_values, matrix_view<O> out, statistic_view<float> lse,
                        std::byte* workspace, bool merge = false);

    /// Bytes of workspace of a backward.
    [[nodiscard]] static constexpr bytes backward_workspace(index query_tokens, index heads, index key_heads) {
        return hopper::attention_backward_workspace(query_tokens, heads, key_heads, HeadDim);
    }

    /// Writes dq (its share of these keys), and dk and dv (or adds to them), from d_out and the forward's out and lse.
    template <class Q, class K, class V, class DO, class O, storage_format D>
    static void backward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                         std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                         const score_arguments& score_values, matrix_view<DO> d_out, matrix_view<O> out, statistic_view<const float> lse,
                         statistic_view<const float> delta, matrix_view<D> dq, matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys,
                         float* d_sinks, std::byte* workspace);
};

}  // namespace longspan::cuda::hopper

#include <longspan/cuda/hopper/detail/forward.cuh>
#include <longspan/cuda/hopper/detail/backward.cuh>
