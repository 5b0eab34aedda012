// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of the embedding's backward (cuda/embedding.cuh). No CUDA header.
#pragma once

#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// Tokens of a piece of the longest batches.
inline constexpr int longest_embedding_piece = 128;

/// Tokens, in the order of their ids, that one CTA adds up; runs of one id are cut there. Follows from the number of tokens alone, as
/// the bits of a sum do: short enough that a batch fills a GPU, long enough that partial rows are few.
[[nodiscard]] constexpr index embedding_piece(index tokens) {
    const index piece = round_up(ceil_div(tokens, 512), 32);
    return piece < 32 ? 32 : piece < longest_embedding_piece ? piece : longest_embedding_piece;
}
[[nodiscard]] constexpr index embedding_pieces(index tokens) { return ceil_div(tokens, embedding_piece(tokens)); }

/// Bytes of scratch: for each piece at most two partial rows of floats, where an id's run crosses its ends, and these ids.
[[nodiscard]] constexpr bytes embedding_backward_workspace(index tokens, index width) {
    return embedding_pieces(tokens) * (2 * width * bytes{sizeof(float)} + 2 * bytes{sizeof(std::int32_t)});
}

}  // namespace longspan::cuda
