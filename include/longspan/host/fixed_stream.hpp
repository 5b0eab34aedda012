// SPDX-License-Identifier: Apache-2.0
//
// Residual streams in fixed point (precision/fixed_point.hpp), whose sums can be undone to the bit:
//
//   start_stream      x = fixed(values)
//   add_branch        y = x + fixed(thin(branch))         thin: dropout and stochastic depth, as in host/residual.hpp, by the same draws
//   take_branch       x = y - fixed(thin(branch))
//   add_stream        x += other,  take_stream  x -= other
//
// fixed(v) is v · 2^Fraction rounded to whole units, ties to even: one rounding of a branch, none of the sum. What is not finite or
// would leave the range changes nothing and lowers *first_bad to its token. One pass over memory each; in place where views are the
// same. Deterministic. Throw bad_argument where shapes or the table do not fit.
#pragma once

#include <longspan/host/dropout.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// x[t, c] = values[t, c]; 0 where that is outside the range.
template <storage V, fixed_format X>
void start_stream(matrix_view<V> values, matrix_view<X> x, index* first_bad);

/// y[t, c] = x + s·dropout(branch); x where that is outside the range. y may be x.
template <fixed_format X, storage B, fixed_format Y>
void add_branch(matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
                const random_site& site, index* first_bad);

/// The x of which add_branch made y. x may be y.
template <fixed_format Y, storage B, fixed_format X>
void take_branch(matrix_view<Y> y, matrix_view<B> branch, matrix_view<X> x, const piece_rows& pieces, const branch_drop& drop,
                 const random_site& site, index* first_bad);

/// x += other: of two streams in range no sum wraps.
template <fixed_format X, fixed_format O>
void add_stream(matrix_view<X> x, matrix_view<O> other);

/// The x that there was before.
template <fixed_format X, fixed_format O>
void take_stream(matrix_view<X> x, matrix_view<O> other);

}  // namespace longspan::host

#include <longspan/host/detail/fixed_stream.hpp>
