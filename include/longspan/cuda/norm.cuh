// SPDX-License-Identifier: Apache-2.0
//
// RMSNorm, LayerNorm and the norm of a head, forward and backward, alone or with the residual sum that they follow: the twin of
// host/norm.hpp. A row is read once into registers and written once:
//
//     y = (x − mean)·rstd·w + b          rstd = 1 / √(mean of squares + ε)          (RMSNorm: mean = 0, no b)
//
// Backward: dx = (=, +=) the gradient through the norm; dw, db += sums over rows, in norm_parts parts and then over the parts, each
// in a fixed order. Sums are floats. Traffic: each tensor once; add_rms_norm saves a read of the stream.
#pragma once

#include <cstddef>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/gemm_sizes.hpp>
#include <longspan/cuda/norm_sizes.hpp>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// y[t, Width] = x·rstd·w; writes rstd[t].
template <index Width, class X, class W, class Y, class S>
void rms_norm(stream_ref stream, matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd);

/// sum[t, Width] = x + branch, rounded; y = the norm of the rounded sum: the bits of the two ops apart.
template <index Width, class X, class B, class R, class W, class Y, class S>
void add_rms_norm(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, double epsilon, matrix_view<Y> y,
                  S* rstd);

/// dx (= | +=) the gradient of y with dy; dw[Width] +=. `workspace`: norm_workspace(Width) bytes at a multiple of 16.
template <index Width, accumulate Add = accumulate::no, class DY, class X, class W, class S, class DX, class DW>
void rms_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, DW* dweight,
                       std::byte* workspace);

/// y[t, Width] = (x − mean)·rstd·w + b; writes mean[t] and rstd[t].
template <index Width, class X, class W, class Y, class S>
void layer_norm(stream_ref stream, matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd);

template <index Width, class X, class B, class R, class W, class Y, class S>
void add_layer_norm(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, const W* bias, double epsilon,
                    matrix_view<Y> y, S* mean, S* rstd);

template <index Width, accumulate Add = accumulate::no, class DY, class X, class W, class S, class DX, class DW>
void layer_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         DW* dweight, DW* dbias, std::byte* workspace);

/// RMSNorm of each head of x[t, heads·Head] by one weight [Head]; writes rstd[t, heads]. y may be x.
template <index Head, class X, class W, class Y, class S>
void head_norm(stream_ref stream, matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd);

/// dx = the gradient; dw[Head] += over all heads. dx may be dy. `workspace`: norm_workspace(Head) bytes.
template <index Head, class DY, class X, class W, class S, class DX, class DW>
void head_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, DW* dweight,
                        std::byte* workspace);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/norm_forward.cuh>
#include <longspan/cuda/detail/norm_backward.cuh>
