// SPDX-License-Identifier: Apache-2.0
//
// Small models that both backends can train: heads of a multiple of 8, every option of a shape in at least one, odd budgets.
#pragma once

#include <cstdint>
#include <random>
#include <vector>

#include <longspan/longspan.hpp>

namespace models {

using namespace longspan;
using longspan::index;  // not POSIX's

inline constexpr index budget = 263;  // a prime: no tile divides it
inline constexpr index context = 150;

template <decoder_shape Shape, auto Attention, auto Checkpoint, auto Precision, index Budget = budget>
struct config {
    static constexpr auto shape = Shape;
    static constexpr auto attention = Attention;
    static constexpr auto checkpoint = Checkpoint;
    static constexpr auto precision = Precision;
    static constexpr auto batch = packed<Budget>.template pieces<16>();
};

inline constexpr decoder_shape llama{.layers = 3, .width = 64, .heads = 4, .key_value_heads = 2, .hidden = 96, .vocabulary = 101,
                                     .context = context, .loss_chunk = 100};
inline constexpr decoder_shape gpt2{.layers = 2, .width = 48, .heads = 3, .hidden = 88, .vocabulary = 61, .context = context,
                                    .norm = norm_kind::layer, .mlp = mlp_kind::gelu_tanh, .positions = position_kind::learned, .bias = true,
                                    .loss_chunk = 128};
inline constexpr decoder_shape rich{.layers = 2, .width = 40, .heads = 4, .key_value_heads = 1, .head_width = 16, .hidden = 72, .vocabulary = 37,
                                    .context = context, .tied = false, .qk_norm = true, .sink = true, .soft_cap = 5, .dropout = 0.1,
                                    .attention_dropout = 0.15, .stochastic_depth = 0.3, .label_smoothing = 0.1, .loss_chunk = 64};
inline constexpr decoder_shape slopes{.layers = 2, .width = 48, .heads = 6, .key_value_heads = 3, .hidden = 40, .vocabulary = 37, .context = context,
                                      .norm = norm_kind::layer, .mlp = mlp_kind::gelu, .positions = position_kind::alibi};
inline constexpr decoder_shape waves{.layers = 1, .width = 32, .heads = 2, .hidden = 24, .vocabulary = 37, .context = context,
                                     .positions = position_kind::sinusoidal, .bias = true, .tied = false};

/// Heads that Hopper's kernels take.
inline constexpr decoder_shape wide_heads{.layers = 2, .width = 192, .heads = 4, .key_value_heads = 2, .head_width = 64, .hidden = 128, .vocabulary = 61,
                                          .context = context, .loss_chunk = 128};

inline constexpr auto local = causal & (window<20> | first<3>);

/// A batch of pieces with these lengths (0 allowed), random tokens, next-token targets within each piece, a tail of padding.
inline token_batch batch_of(const std::vector<index>& lengths, index vocabulary, std::uint64_t seed, index size = budget, index table = 16) {
    std::mt19937_64 random(seed);
    token_batch batch;
    batch.tokens.assign(static_cast<std::size_t>(size), 0);
    batch.targets.assign(static_cast<std::size_t>(size), ignored_target);
    index begin = 0, document = 7;
    for (const index length : lengths) {
        batch.pieces.push_back({document++, 0, begin});
        for (index t = 0; t < length; ++t) {
            const auto at = static_cast<std::size_t>(begin + t);
            batch.tokens[at] = static_cast<token_id>(random() % static_cast<std::uint64_t>(vocabulary));
            if (t > 0) batch.targets[at - 1] = batch.tokens[at], ++batch.counts.targets;
        }
        begin += length;
    }
    batch.pieces.push_back({padding_document, 0, begin});
    batch.pieces.resize(static_cast<std::size_t>(table), piece{padding_document, 0, size});
    batch.by_id.resize(static_cast<std::size_t>(size));
    sort_tokens(batch.tokens, vocabulary, batch.by_id);
    batch.counts.tokens = begin;
    batch.counts.target_weight = static_cast<double>(batch.counts.targets);
    return batch;
}
inline token_batch odd_batch(index vocabulary, std::uint64_t seed) { return batch_of({64, 0, 1, 129, 33, 7}, vocabulary, seed); }

}  // namespace models
