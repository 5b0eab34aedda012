// SPDX-License-Identifier: Apache-2.0
//
// The shape axis: the numbers which make a decoder, as a plain aggregate that may be a template argument. What is left out
// takes its default; what contradicts itself is a sentence at compile time (`check_shape`).
//
//     constexpr ls::decoder_shape shape{.layers = 12, .width = 768, .heads = 12, .hidden = 2048, .vocabulary = 50304, .context = 8192};
#pragma once

#include <longspan/core/kinds.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

/// A decoder-only transformer with pre-normalisation. Widths in elements, context in tokens.
struct decoder_shape {
    index layers = 0;
    index width = 0;                ///< of the residual stream
    index heads = 0;                ///< query heads
    index key_value_heads = 0;      ///< 0: as many as query heads; fewer: grouped-query attention (arXiv:2305.13245)
    index head_width = 0;           ///< 0: width / heads
    index hidden = 0;               ///< of the MLP
    index vocabulary = 0;
    index context = 0;              ///< the longest piece

    norm_kind norm = norm_kind::rms;
    mlp_kind mlp = mlp_kind::silu_gated;
    position_kind positions = position_kind::rotary;
    residual_kind residual = residual_kind::one_stream;
    bool bias = false;              ///< on every projection
    bool tied = true;               ///< the head reads the embedding table
    bool qk_norm = false;           ///< RMSNorm on each query and key head before rotation (arXiv:2302.05442)
    bool sink = false;              ///< a learned logit per head that takes probability and gives nothing
    double soft_cap = 0;            ///< s → cap · tanh(s / cap) on scores; 0: none
    double rotary_base = 10000;
    double norm_epsilon = 1e-5;

    double dropout = 0;             ///< on the embedding and on each branch before it joins the stream
    double attention_dropout = 0;   ///< on the attention map
    double stochastic_depth = 0;    ///< probability that a document skips the last layer's branches; grows linearly from 0 (arXiv:1603.09382)
    double label_smoothing = 0;
    index loss_chunk = 256;         ///< tokens whose logits exist at once
    index token_chunk = 0;          ///< tokens that norms, projections, MLP, head and loss take at a time; of others only what is saved exists; 0: all
    index head_group = 0;           ///< key/value heads that attention takes at a time, with the query heads they serve; 0: all

    [[nodiscard]] constexpr index query_heads() const { return heads; }
    [[nodiscard]] constexpr index grouped_heads() const { return key_value_heads > 0 ? key_value_heads : heads; }
    [[nodiscard]] constexpr index head() const { return head_width > 0 ? head_width : width / heads; }
    [[nodiscard]] constexpr index query_width() const { return heads * head(); }
    [[nodiscard]] constexpr index key_value_width() const { return grouped_heads() * head(); }
    [[nodiscard]] constexpr index streams() const { return residual == residual_kind::two_streams ? 2 : 1; }
    /// Groups of heads that attention goes through, one after another.
    [[nodiscard]] constexpr index head_groups() const { return head_group > 0 ? grouped_heads() / head_group : 1; }
    /// Query and key/value heads of a group.
    [[nodiscard]] constexpr index group_heads() const { return heads / head_groups(); }
    [[nodiscard]] constexpr index group_key_value_heads() const { return grouped_heads() / head_groups(); }
    /// Of so many tokens, those that are taken at a time.
    [[nodiscard]] constexpr index chunk(index tokens) const { return 0 < token_chunk && token_chunk < tokens ? token_chunk : tokens; }
    [[nodiscard]] constexpr bool gated() const { return mlp == mlp_kind::silu_gated; }

    friend constexpr bool operator==(const decoder_shape&, const decoder_shape&) = default;
};

/// Refuses a shape that cannot be built, one sentence a mistake. Costs nothing at run time.
template <decoder_shape Shape>
consteval bool check_shape() {
    static_assert(Shape.layers > 0, "decoder_shape.layers: a decoder has at least 1 layer");
    static_assert(Shape.width > 0, "decoder_shape.width: the residual stream has at least 1 element a token");
    static_assert(Shape.heads > 0, "decoder_shape.heads: attention has at least 1 query head");
    static_assert(Shape.hidden > 0, "decoder_shape.hidden: the MLP has at least 1 hidden element");
    static_assert(Shape.vocabulary > 1, "decoder_shape.vocabulary: there are at least 2 tokens to choose from");
    static_assert(Shape.context > 0, "decoder_shape.context: a piece holds at least 1 token");
    static_assert(Shape.heads <= 0 || Shape.head_width > 0 || Shape.width % (Shape.heads > 0 ? Shape.heads : 1) == 0,
                  "decoder_shape.heads does not divide decoder_shape.width: choose a divisor, or name head_width");
    static_assert(Shape.key_value_heads >= 0 && Shape.heads % (Shape.key_value_heads > 0 ? Shape.key_value_heads : 1) == 0,
                  "decoder_shape.key_value_heads does not divide decoder_shape.heads: each key/value head serves the same "
                  "number of query heads");
    static_assert(Shape.positions != position_kind::rotary || Shape.heads <= 0 || Shape.head() % 2 == 0,
                  "decoder_shape.positions = rotary turns pairs of elements: the head width must be even");
    static_assert(Shape.dropout >= 0 && Shape.dropout < 1 && Shape.attention_dropout >= 0 && Shape.attention_dropout < 1 &&
                      Shape.stochastic_depth >= 0 && Shape.stochastic_depth < 1,
                  "decoder_shape: dropout, attention_dropout and stochastic_depth are probabilities in [0, 1)");
    static_assert(Shape.label_smoothing >= 0 && Shape.label_smoothing < 1,
                  "decoder_shape.label_smoothing is a share in [0, 1)");
    static_assert(Shape.soft_cap >= 0, "decoder_shape.soft_cap is a bound on the scores: positive, or 0 for none");
    static_assert(Shape.token_chunk >= 0, "decoder_shape.token_chunk: tokens that norms, projections and the MLP take at a time, or 0 for all");
    static_assert(Shape.head_group >= 0 && Shape.grouped_heads() % (Shape.head_group > 0 ? Shape.head_group : 1) == 0,
                  "decoder_shape.head_group does not divide the key/value heads: attention takes whole groups of them at a time, or 0 for all");
    static_assert(Shape.loss_chunk > 0, "decoder_shape.loss_chunk: the loss takes at least 1 token at a time");
    return true;
}

}  // namespace longspan
