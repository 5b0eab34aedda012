// SPDX-License-Identifier: Apache-2.0
//
// The models whose steps are measured beside PyTorch's and llm.c's: 124 million, 875 million, and GPT-2 124M to the letter.
#pragma once

#include <longspan/longspan.hpp>

namespace models {

namespace ls = longspan;

/// 12 layers, width 768, gated MLP, RMSNorm, rotary, tied: 123.6 million parameters.
template <ls::index Tokens, ls::index Context>
struct a {
    static constexpr auto shape = ls::decoder_shape{.layers = 12, .width = 768, .heads = 12, .hidden = 2048, .vocabulary = 50304,
                                                    .context = Context, .loss_chunk = 8192};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<Tokens>;
};

/// 16 layers, width 2048, 16 heads of 128, gated MLP, RMSNorm, rotary, tied: 875 million parameters.
template <ls::index Tokens, ls::index Context>
struct b {
    static constexpr auto shape = ls::decoder_shape{.layers = 16, .width = 2048, .heads = 16, .hidden = 5504, .vocabulary = 32000,
                                                    .context = Context, .loss_chunk = 4096};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<Tokens>;
};

/// LayerNorm, GELU, biases, learned positions, tied.
template <ls::index Tokens, ls::index Context>
struct gpt2 {
    static constexpr auto shape = ls::decoder_shape{.layers = 12, .width = 768, .heads = 12, .hidden = 3072, .vocabulary = 50304,
                                                    .context = Context, .norm = ls::norm_kind::layer, .mlp = ls::mlp_kind::gelu_tanh,
                                                    .positions = ls::position_kind::learned, .bias = true, .loss_chunk = 8192};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<Tokens>;
};

/// A shape of which so many tokens and key/value heads are taken at a time, 0: all; and one of two residual streams.
constexpr ls::decoder_shape in_parts(ls::decoder_shape shape, ls::index token_chunk, ls::index head_group = 0) {
    shape.token_chunk = token_chunk, shape.head_group = head_group;
    return shape;
}
constexpr ls::decoder_shape on_two_streams(ls::decoder_shape shape) {
    shape.residual = ls::residual_kind::two_streams;
    return shape;
}

}  // namespace models
