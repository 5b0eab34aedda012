// SPDX-License-Identifier: Apache-2.0
//
// Normalisation of rows, forward and backward:
//
//     rms_norm    y = x · r · w,              r = 1 / √(mean(x²) + ε)           (Zhang & Sennrich, arXiv:1910.07467)
//     layer_norm  y = (x − m) · r · w + b,    r = 1 / √(mean((x − m)²) + ε)     (Ba et al., arXiv:1607.06450)
//     head_norm   rms_norm of each run of `head` columns, one weight [head] for all (QK-norm, arXiv:2302.05442)
//
// Forward writes the statistics that backward reads: [t] floats (doubles in fp64), [t, heads] for head_norm. Rows are
// independent; a weight's gradient sums over rows in blocks of 128, then over the blocks, whatever the number of threads.
// Memory-bound: forward reads x once and writes y; backward reads dy and x twice. Allocates nothing. Deterministic.
#pragma once

#include <cmath>
#include <string>
#include <type_traits>

#include <longspan/core/error.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

/// y[t, c] = rms_norm(x[t, c]) · weight[c]; rstd[t] is written.
template <storage X, storage_format W, storage_format Y, class S>
void rms_norm(matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd);

/// dx[t, c] (= | +=), dweight[c] +=, from dy = d loss / d y and the statistics of the forward.
template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, accumulate add, DW* dweight);

/// The same per head: x[t, heads·head], weight[head], rstd[t, heads].
template <storage X, storage_format W, storage_format Y, class S>
void head_norm(matrix_view<X> x, const W* weight, index head, double epsilon, matrix_view<Y> y, S* rstd);

/// dx may be dy itself.
template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index head, const S* rstd, matrix_view<DX> dx, DW* dweight);

/// y[t, c] = layer_norm(x[t, c]) · weight[c] + bias[c]; mean[t] and rstd[t] are written.
template <storage X, storage_format W, storage_format Y, class S>
void layer_norm(matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd);

template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         accumulate add, DW* dweight, DW* dbias);

}  // namespace longspan::host

#include <longspan/host/detail/norm.hpp>
