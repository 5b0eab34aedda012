// SPDX-License-Identifier: Apache-2.0
//
// Attention over packed documents for any pattern, forward and backward, on any GPU since sm_80: the twin of host/attention.hpp,
// through mma.sync. Scores live in registers and never meet memory:
//
//     p = softmax over the keys that the pattern shows of  scale · q·k   (soft-capped, with ALiBi, beside a sink logit)
//     out = dropout(p) · v,   lse = log Σ exp(scores)
//
// Only live tiles are visited; elements are tested only in partial tiles. 4·d FLOPs a live pair forward, 10·d backward. Where a pattern
// tells who adds to a block of queries one kernel keeps a block of keys and sums dQ in memory, in a fixed order; elsewhere, and for
// floats, 14·d are done: a second kernel keeps a block of queries.
//
// Two-byte operands meet in m16n8k16. Floats meet as tf32 (score's Rounding = tf32_format) or, without a rounding, as the three
// products of their tf32 parts, whose error is that of float. P and dS are rounded to the operands' format; sums are floats.
//
// A query that sees nothing has out = 0, lse = −∞ and no gradient. Deterministic: a query's sums run over keys in order, a key's
// over queries in order, head by head of its group; no atomics. Nothing allocates or waits; everything may be captured.
// References: Dao, "FlashAttention-2", arXiv:2307.08691; Ootomo & Yokota, arXiv:2203.03341 (tf32 in parts).
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <longspan/core/dropout.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/attention_sizes.hpp>
#include <longspan/cuda/random_origin.hpp>
#include <longspan/cuda/stream.hpp>
#include <longspan/pattern/pattern.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda {

/// The numbers that go with a score; pointers are device memory.
struct score_arguments {
    double scale = 0;               ///< of q·k; 0: 1/√HeadDim
    double soft_cap = 0;            ///< s → cap · tanh(s / cap)
    const float* slopes = nullptr;  ///< [heads]; a score loses slope · |q − k|
    const float* sinks = nullptr;   ///< [heads] logits
    dropout_rate dropout{};
    random_origin site{};
    index first_head = 0;           ///< the number that a call's first query head draws dropout as
};

/// One float per query and head: [tq, heads] with any strides, so that a caller may keep it token by token or head by head.
template <class S>
    requires std::is_same_v<std::remove_const_t<S>, float>
struct statistic_view {
    S* data = nullptr;
    index rows = 0, heads = 0;
    index token_stride = 0, head_stride = 0;

    constexpr statistic_view() = default;
    constexpr statistic_view(S* data_, index rows_, index heads_, index token_stride_, index head_stride_)
        : data(data_), rows(rows_), heads(heads_), token_stride(token_stride_), head_stride(head_stride_) {}
    constexpr statistic_view(matrix_view<S> from) : statistic_view(from.data, from.rows, from.columns, from.stride, 1) {}
    template <class U>
        requires(std::is_const_v<S> && std::is_same_v<U, float>)
    constexpr statistic_view(matrix_view<U> from)
        : statistic_view(from.data, from.rows, from.columns, from.stride, 1) {}
    template <class U>
        requires(std::is_const_v<S> && std::is_same_v<U, float>)
    constexpr statistic_view(statistic_view<U> from)
        : statistic_view(from.data, from.rows, from.heads, from.token_stride, from.head_stride) {}

    LONGSPAN_HD [[nodiscard]] constexpr S& operator()(index row, index head) const { return data[row * token_stride + head * head_stride]; }
};

/// Self-attention within each piece: positions count from 0 at the piece's first token (from its position when it carries).
/// `pieces` and `out` are device memory, `out` attention_segment_memory(tokens, count) bytes at a multiple of 16: the segments,
/// and behind them their schedule.
void self_attention_segments(stream_ref stream, const piece* pieces, index count, index tokens, attention_segment* out);

/// Writes the schedule behind `count` segments over sets of so many tokens: `segments` is device memory of
/// attention_segment_memory(query_tokens, key_tokens, count) bytes that begins with them. Needed once, before the calls that
/// take them.
void schedule_segments(stream_ref stream, attention_segment* segments, index count, index query_tokens, index key_tokens);

/// Queries [tq, heads·HeadDim], keys and values [tk, kv heads·HeadDim] with heads a multiple of kv heads; views may have any
/// stride that keeps rows at multiples of 16 bytes. HeadDim: a multiple of 8 up to 256. Segments lie in device memory, scheduled
/// for sets of tq and tk tokens. Throws bad_argument for shapes that do not fit.
template <pattern Pattern, index HeadDim, class Score = score<>>
struct attention {
    static_assert(HeadDim >= 8 && HeadDim <= 256 && HeadDim % 8 == 0, "cuda attention: a head is 8 to 256 elements wide, a multiple of 8");
    using arguments = typename Pattern::arguments;

    /// Bytes of workspace of a forward: none here, some on other kernels that go by the same names.
    [[nodiscard]] static constexpr bytes forward_workspace() { return 0; }

    /// Writes out[tq, heads·HeadDim] and lse[tq, heads] for the segments' queries. With `merge`, out and lse hold the result over
    /// other keys, and become the result over both (no sink then: count it once).
    template <class Q, class K, class V, storage_format O>
    static void forward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                        std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                        const score_arguments& score_values, matrix_view<O> out, statistic_view<float> lse,
                        std::byte* workspace, bool merge = false);

    /// Bytes of workspace of a backward.
    [[nodiscard]] static constexpr bytes backward_workspace(index query_tokens, index heads, index key_heads) {
        return attention_backward_workspace(query_tokens, heads, key_heads, HeadDim);
    }

    /// Writes dq (its share of these keys), and dk and dv (or adds to them), from d_out and the forward's out and lse.
    /// `delta` [tq, heads] = Σ d_out · out per head may come from outside (keys spread over calls); without data it is computed.
    /// d_sinks[heads] += when not null. `workspace`: backward_workspace() bytes at a multiple of 256.
    template <class Q, class K, class V, class DO, class O, storage_format D>
    static void backward(stream_ref stream, matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values,
                         std::span<const attention_segment> segments, const pattern_values<arguments>& pattern_arguments,
                         const score_arguments& score_values, matrix_view<DO> d_out, matrix_view<O> out, statistic_view<const float> lse,
                         statistic_view<const float> delta, matrix_view<D> dq, matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys,
                         float* d_sinks, std::byte* workspace);
};

}  // namespace longspan::cuda

#include <longspan/cuda/detail/attention_forward.cuh>
#include <longspan/cuda/detail/attention_backward.cuh>
#include <longspan/cuda/detail/attention_schedule.cuh>
