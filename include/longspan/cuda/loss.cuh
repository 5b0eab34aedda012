// SPDX-License-Identifier: Apache-2.0
//
// The head of a language model and its loss in one op, by windows of tokens: logits z = x·wᵀ live for a part of a window at a
// time, so tokens x vocabulary never exist. The twin of host/loss.hpp. Per token with target y, label smoothing s and weight a:
//
//   loss = a · (log Σ exp z_i - (1 - s) · z_y - s/v · Σ z_i)          dz_i = a · (softmax(z)_i - (1 - s)·[i = y] - s/v)
//
// Memory: window x v of dz in the products' format, a part x v of float logits (cuda/loss_sizes.hpp). Logits and softmax are
// floats and never rounded; dz is rounded to x's format before it meets w and x. A token's loss is a double; losses are summed
// in a fixed order. The window is a part of the arithmetic of dw: its sums run within a window, then over the windows.
//
// Deterministic, no host in the loop: targets, weights, loss scale and results live in device memory, so that a captured step
// may be replayed for any batch.
//
// Reference: Wijmans et al., "Cut Your Losses in Large-Vocabulary Language Models", arXiv:2411.09009 (the memory argument);
// Szegedy et al., arXiv:1512.00567 (label smoothing). Smoothing and its gradient are as in PyTorch's cross_entropy.
#pragma once

#include <cstddef>
#include <cstdint>

#include <longspan/core/view.hpp>
#include <longspan/cuda/gemm.cuh>
#include <longspan/cuda/loss_sizes.hpp>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// What the loss of a token counts, and what is written beside the sum. Pointers are device memory; each may be null.
struct cross_entropy_options {
    double smoothing = 0;                  ///< share of the target's probability spread over the vocabulary, in [0, 1)
    const float* scale = nullptr;          ///< factor of the gradients (not of the losses): the loss scale of fp16; null: 1
    const float* token_weights = nullptr;  ///< a of each token [t]; null: 1
    double* token_losses = nullptr;        ///< where each token's loss before its weight goes [t], 0 where ignored
    index* first_bad = nullptr;            ///< lowered to the first token whose target is outside [-1, v); such a token is ignored
    index first_token = 0;                 ///< the number that such a note gives row 0
};

/// Adds the losses of x[t, c] under the head w[v, c] and targets[t] (-1: ignored) to *sums. `workspace`: loss_workspace bytes at
/// a multiple of 256. Throws bad_argument for shapes that do not fit.
template <index Vocabulary, class Operand = void, product_storage X, product_storage W>
    requires product_operand<Operand, X>
void linear_cross_entropy(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                          const cross_entropy_options& options, index window, cross_entropy_sums* sums, std::byte* workspace);

/// The same sums, to the bit; writes dx[t, c] and adds to dw[v, c] the gradients of scale · Σ a · loss. Rows of dx without a
/// target are 0.
template <index Vocabulary, class Operand = void, product_storage X, product_storage W, product_storage DX>
    requires product_operand<Operand, X>
void linear_cross_entropy_gradients(stream_ref stream, cublas& blas, matrix_view<X> x, matrix_view<W> w, const std::int32_t* targets,
                                    const cross_entropy_options& options, index window, matrix_view<DX> dx, matrix_view<float> dw,
                                    cross_entropy_sums* sums, std::byte* workspace);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/loss.cuh>
