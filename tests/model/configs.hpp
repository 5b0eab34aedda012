// SPDX-License-Identifier: Apache-2.0
//
// Small models for tests: every option of a shape appears in at least one, and the batches are packed with odd documents, empty
// and one-token pieces included.
#pragma once

#include <cstdint>
#include <random>
#include <string>
#include <vector>

#include <longspan/longspan.hpp>

namespace models {

using namespace longspan;
using longspan::index;  // not POSIX's

inline constexpr index budget = 131;  // a prime: no tile divides it
inline constexpr index context = 97;

/// A configuration from its parts.
template <decoder_shape Shape, auto Attention, auto Checkpoint, auto Precision>
struct config {
    static constexpr auto shape = Shape;
    static constexpr auto attention = Attention;
    static constexpr auto checkpoint = Checkpoint;
    static constexpr auto precision = Precision;
    static constexpr auto batch = packed<budget>.template pieces<16>();
};

inline constexpr decoder_shape llama{.layers = 3, .width = 24, .heads = 4, .key_value_heads = 2, .hidden = 40, .vocabulary = 61,
                                     .context = context, .loss_chunk = 50};
inline constexpr decoder_shape gpt2{.layers = 2, .width = 24, .heads = 3, .hidden = 33, .vocabulary = 61, .context = context,
                                    .norm = norm_kind::layer, .mlp = mlp_kind::gelu_tanh, .positions = position_kind::learned, .bias = true,
                                    .loss_chunk = 50};
inline constexpr decoder_shape rich{.layers = 2, .width = 20, .heads = 4, .key_value_heads = 1, .head_width = 8, .hidden = 27, .vocabulary = 37,
                                    .context = context, .tied = false, .qk_norm = true, .sink = true, .soft_cap = 5, .dropout = 0.1,
                                    .attention_dropout = 0.15, .stochastic_depth = 0.3, .label_smoothing = 0.1, .loss_chunk = 64};
inline constexpr decoder_shape slopes{.layers = 2, .width = 24, .heads = 6, .key_value_heads = 3, .hidden = 19, .vocabulary = 37, .context = context,
                                      .norm = norm_kind::layer, .mlp = mlp_kind::gelu, .positions = position_kind::alibi};
inline constexpr decoder_shape waves{.layers = 1, .width = 16, .heads = 2, .hidden = 24, .vocabulary = 37, .context = context,
                                     .positions = position_kind::sinusoidal, .bias = true, .tied = false};

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
            if (t > 0) batch.targets[at - 1] = batch.tokens[at];
        }
        begin += length;
        batch.counts.tokens += length;
        batch.counts.targets += length > 0 ? length - 1 : 0;
    }
    batch.counts.target_weight = static_cast<double>(batch.counts.targets);
    batch.pieces.push_back({padding_document, 0, begin});
    while (static_cast<index>(batch.pieces.size()) < table) batch.pieces.push_back({padding_document, 0, size});
    batch.by_id.resize(batch.tokens.size());
    sort_tokens(batch.tokens, vocabulary, batch.by_id);
    return batch;
}

/// Odd documents, one of no and one of a single token, and 14 tokens of padding.
inline token_batch odd_batch(index vocabulary, std::uint64_t seed) { return batch_of({33, 0, 1, 64, 2, 17}, vocabulary, seed); }

}  // namespace models
