// SPDX-License-Identifier: Apache-2.0
//
// Normalisation of rows, forward and backward:
//
//     rms_norm    y = x · r · w,              r = 1 / √(mean(x²) + ε)           (Zhang & Sennrich, arXiv:1910.07467)
//     layer_norm  y = (x − m) · r · w + b,    r = 1 / √(mean((x − m)²) + ε)     (Ba et al., arXiv:1607.06450)
//     head_norm   rms_norm of each run of `head` columns, one weight [head] for all (QK-norm, arXiv:2302.05442)
//
// With x̂ = (x − m) · r and g = dy · w, over a row:  dx = r · (g − x̂ · mean(g · x̂) − mean(g)),  dw = Σ dy · x̂,  db = Σ dy
// (without m, the last mean is absent). A null weight is all ones, a null bias zeros; a null gradient is not wanted.
//
// x may be a residual stream in fixed point, which is read as the nearest floats.
// Forward writes the statistics that backward reads: [t], or [t, heads] for head_norm. One pass over memory each: forward reads
// x and writes y, backward reads dy and x and writes dx. A weight's gradient sums panels of 16 rows, then panels in order,
// whatever the number of threads. Outputs may lie where an input of their own shape lies (y on x; dx on x or on dy).
// Allocates nothing (128 KiB of stack in backward). Deterministic. Throws bad_argument where shapes do not fit.
#pragma once

#include <cmath>
#include <concepts>

#include <longspan/core/view.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// y[t, c] = rms_norm(x[t, c]) · weight[c]; rstd[t] is written.
template <stream X, storage_format W, storage_format Y, std::floating_point S>
void rms_norm(matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd);

/// dx[t, c] (= | +=), dweight[c] +=, from dy = d loss / d y and the statistics of the forward.
template <storage DY, stream X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, accumulate add, DW* dweight);

/// The same per head: x[t, heads·head], weight[head], rstd[t, heads].
template <storage X, storage_format W, storage_format Y, std::floating_point S>
void head_norm(matrix_view<X> x, const W* weight, index head, double epsilon, matrix_view<Y> y, S* rstd);

/// dx[t, heads·head] =, dweight[head] +=.
template <storage DY, storage X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index head, const S* rstd, matrix_view<DX> dx, DW* dweight);

/// y[t, c] = layer_norm(x[t, c]) · weight[c] + bias[c]; mean[t] and rstd[t] are written.
template <stream X, storage_format W, storage_format Y, std::floating_point S>
void layer_norm(matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd);

/// dx[t, c] (= | +=), dweight[c] +=, dbias[c] +=.
template <storage DY, stream X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         accumulate add, DW* dweight, DW* dbias);

}  // namespace longspan::host

#include <longspan/host/detail/norm.hpp>
