// SPDX-License-Identifier: Apache-2.0
//
// The MLP's activations, forward and backward:
//
//     silu        x · σ(x)                                                      (arXiv:1702.03118)
//     gelu        x · Φ(x)                                                      (arXiv:1606.08415)
//     gelu_tanh   x · (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2                   (the same paper's approximation; GPT-2's)
//     …_gated     x = [gate | up] of [t, 2f]:  y[t, f] = f(gate) · up           (Shazeer, arXiv:2002.05202)
//
// Backward can make the activation again in the same pass, with the forward's bits, so that a step need not keep it: give it a y.
// Outputs may lie on an input of their own shape (dx on x, y on dy). Elementwise and memory-bound: each operand is read or
// written once. A finite x gives a finite result. Allocates nothing. Deterministic; a value's bits do not depend on its place.
// Throws bad_argument where shapes do not fit.
#pragma once

#include <longspan/core/view.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// y[t, f] = silu(x[t, :f]) · x[t, f:].
template <storage X, storage_format Y>
void silu_gated(matrix_view<X> x, matrix_view<Y> y);
/// dx[t, 2f] from dy[t, f]; y[t, f], unless it is left out, is the activation again.
template <storage DY, storage X, storage_format DX, storage_format Y = DX>
void silu_gated_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {});

/// y[t, f] = gelu(x[t, :f]) · x[t, f:].
template <storage X, storage_format Y>
void gelu_gated(matrix_view<X> x, matrix_view<Y> y);
template <storage DY, storage X, storage_format DX, storage_format Y = DX>
void gelu_gated_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {});

/// y[t, f] = gelu(x[t, f]).
template <storage X, storage_format Y>
void gelu(matrix_view<X> x, matrix_view<Y> y);
/// dx[t, f] from dy[t, f]; y[t, f], unless it is left out, is the activation again.
template <storage DY, storage X, storage_format DX, storage_format Y = DX>
void gelu_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {});

/// y[t, f] = gelu_tanh(x[t, f]).
template <storage X, storage_format Y>
void gelu_tanh(matrix_view<X> x, matrix_view<Y> y);
template <storage DY, storage X, storage_format DX, storage_format Y = DX>
void gelu_tanh_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {});

}  // namespace longspan::host

#include <longspan/host/detail/activation.hpp>
