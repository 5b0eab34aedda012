// SPDX-License-Identifier: Apache-2.0
//
// The head of a language model and its loss in one op, by chunks of tokens: logits z = x·wᵀ live for one chunk at a time, so
// tokens x vocabulary never exist. Per token with target y, label smoothing s and weight a:
//
//   loss = a · (log Σ exp z_i - (1 - s) · z_y - s/v · Σ z_i)          dz_i = a · (softmax(z)_i - (1 - s)·[i = y] - s/v)
//
// Memory: chunk x v logits in compute precision, and a double per token of the chunk, in the caller's workspace
// (cross_entropy_workspace). At 512 tokens and 50,304 words: 98.3 MiB, where all of 131,072 tokens' logits take 24.6 GiB.
//
// Logits and softmax are computed in float (double for doubles) and never rounded; dz is rounded to the format that the
// products read (x's, or Operand's) before it meets w and x. Losses are summed in double, in order of the tokens.
//
// Deterministic, and independent of the number of threads. The chunk is a part of the arithmetic of dw alone: its sums run
// within a chunk, then over the chunks. Allocates nothing but host/gemm.hpp's scratch.
//
// Reference: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009 (the memory argument);
// Szegedy et al., arXiv:1512.00567 (label smoothing). Smoothing and its gradient are as in PyTorch's cross_entropy.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <type_traits>

#include <longspan/core/cross_entropy_sums.hpp>
#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/parallel.hpp>
#include <longspan/host/simd.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::host {

/// What the loss of a token counts, and what is written beside the sum.
struct cross_entropy_options {
    double smoothing = 0;                  ///< share of the target's probability spread over the vocabulary, in [0, 1)
    double scale = 1;                      ///< factor of the gradients (not of the losses): the loss scale of fp16
    const float* token_weights = nullptr;  ///< a of each token [t]; null: 1
    double* token_losses = nullptr;        ///< where each token's loss before its weight goes [t], 0 where ignored; or null
    index first_token = 0;                 ///< the number that a refusal gives row 0
};

/// Bytes of workspace for chunks of `chunk` tokens and logits computed in compute_t<Activation>.
template <storage_format Activation>
[[nodiscard]] constexpr bytes cross_entropy_workspace(index chunk, index vocabulary) {
    return chunk * bytes{sizeof(double)} + chunk * vocabulary * bytes{sizeof(compute_t<Activation>)};
}

/// The sum of the losses of x[t, c] under the head w[v, c] and targets[t] (-1: ignored), without gradients. Throws bad_argument
/// for a target outside [-1, v), for shapes that do not fit, and for a workspace that is too small or not aligned to 8 bytes.
template <operand_rounding Operand = void, storage X, storage W>
[[nodiscard]] cross_entropy_sums linear_cross_entropy(matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                                      const cross_entropy_options& options, index chunk,
                                                      std::span<std::byte> workspace);

/// The same sums, to the bit; writes dx[t, c] and adds to dw[v, c] the gradients of scale · Σ a · loss. Rows of dx without a
/// target are 0. A chunk without any target costs nothing but those zeros.
template <operand_rounding Operand = void, storage X, storage W, storage_format DX, storage_format DW>
cross_entropy_sums linear_cross_entropy_gradients(matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                                  const cross_entropy_options& options, index chunk, matrix_view<DX> dx,
                                                  matrix_view<DW> dw, std::span<std::byte> workspace);

}  // namespace longspan::host

#include <longspan/host/detail/loss.hpp>
