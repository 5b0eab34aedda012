// SPDX-License-Identifier: Apache-2.0
//
// Attention over packed documents for any pattern, forward and backward, without ever holding more than a tile of scores:
//
//     p = softmax over the keys that the pattern shows of  scale · q·k   (soft-capped, with ALiBi, beside a sink logit)
//     out = dropout(p) · v,   lse = log Σ exp(scores)
//
// Only live tiles are visited; elements are tested only in partial tiles. Memory: O(1) per thread (half a MiB of tiles at head
// width 64, kept from call to call), and for two-byte formats a float dQ in the caller's workspace. Time is proportional to
// live pairs: 4·d FLOPs each forward, 10·d backward.
//
// A query that sees nothing has out = 0, lse = −∞ and no gradient. Low precision: P and dS are rounded to the format of the
// operands before their products, sums are in float. Deterministic: a query's sums run over keys in order, a key's over queries
// in order; no bit depends on threads, nor on another document.
// References: Dao, "FlashAttention-2", arXiv:2307.08691; Ainslie et al., arXiv:2305.13245 (grouped heads).
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include <longspan/core/attention_segment.hpp>
#include <longspan/core/dropout.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/pattern/pattern.hpp>

namespace longspan::host {

using longspan::attention_segment, longspan::score;

/// Self-attention within each piece: positions count from 0 at the piece's first token (from its position when it carries).
inline void self_attention_segments(const piece_table& pieces, attention_segment* out) {
    for (index i = 0; i < pieces.count(); ++i) {
        const index begin = pieces.begin(i), count = pieces.length(i), position = pieces[i].position;
        out[i] = {begin, count, position, begin, count, position, i, pieces[i].document};
    }
}

/// The numbers that go with a score.
struct score_arguments {
    double scale = 0;                ///< of q·k; 0: 1/√HeadDim
    double soft_cap = 0;             ///< s → cap · tanh(s / cap)
    const double* slopes = nullptr;  ///< [heads]; a score loses slope · |q − k|
    const double* sinks = nullptr;   ///< [heads] logits
    dropout_rate dropout{};
    random_site site{};
    index first_head = 0;            ///< the number that a call's first query head draws dropout as
};

/// Queries [tq, heads·HeadDim], keys and values [tk, kv heads·HeadDim] with heads a multiple of kv heads; all views may have any
/// stride. lse is [tq, heads]. Throws bad_argument for shapes that do not fit.
template <pattern Pattern, index HeadDim, class Score = score<>>
struct attention {
    static_assert(HeadDim >= 1 && HeadDim <= 512, "host attention: a head is 1 to 512 elements wide");
    using arguments = typename Pattern::arguments;

    /// Writes out[tq, heads·HeadDim] and lse[tq, heads] for the segments' queries. With `merge`, out and lse hold the result over
    /// other keys, and become the result over both (no sink then: count it once).
    template <storage Q, storage K, storage V, storage_format O, class S>
    static void forward(matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values, std::span<const attention_segment> segments,
                        const arguments& pattern_arguments, const score_arguments& score_values, matrix_view<O> out, matrix_view<S> lse,
                        bool merge = false);

    /// Bytes of workspace for gradients of queries stored as D; none where D is what it is computed in.
    template <storage_format D>
    [[nodiscard]] static constexpr bytes backward_workspace(index query_tokens, index heads) {
        return sizeof(D) == 2 ? query_tokens * heads * HeadDim * static_cast<bytes>(sizeof(compute_t<D>)) : 0;
    }

    /// Writes dq (its share of these keys), and dk and dv (or adds to them), from d_out and the forward's out and lse.
    /// `delta` [tq, heads] = Σ d_out · out per head may come from outside (keys spread over calls); without data it is computed.
    /// d_sinks[heads] += when not null.
    template <storage Q, storage K, storage V, storage DO, storage O, class S, storage_format D>
    static void backward(matrix_view<Q> queries, matrix_view<K> keys, matrix_view<V> values, std::span<const attention_segment> segments,
                         const arguments& pattern_arguments, const score_arguments& score_values, matrix_view<DO> d_out,
                         matrix_view<O> out, matrix_view<S> lse, matrix_view<const std::remove_const_t<S>> delta, matrix_view<D> dq,
                         matrix_view<D> dk, matrix_view<D> dv, accumulate add_keys, double* d_sinks, std::byte* workspace);
};

}  // namespace longspan::host

#include <longspan/host/detail/attention_forward.hpp>
#include <longspan/host/detail/attention_backward.hpp>
