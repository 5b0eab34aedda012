// SPDX-License-Identifier: Apache-2.0
//
// Residual streams in fixed point, whose sums can be undone to the bit: the twin of host/fixed_stream.hpp, with its roundings and its
// draws. A branch is rounded once, to whole units, and no sum is; what is not finite or would leave the range changes nothing and lowers
// *first_bad to its token.
//
// Traffic: start_stream 2 tensors (and one more with a second stream), add_branch and take_branch 3, add_stream and take_stream 3.
#pragma once

#include <longspan/core/dropout.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/pieces.cuh>
#include <longspan/cuda/random_origin.hpp>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// x[t, Width] = values; 0 where that is outside the range. Deterministic. Throws bad_argument where shapes or pointers do not fit, as
/// do all of these.
template <index Width, class V, fixed_format X>
void start_stream(stream_ref stream, matrix_view<V> values, matrix_view<X> x, index* first_bad);

/// y[t, Width] = x + thin(branch); x where that is outside the range. y may be x. `pieces` lie in device memory and cover x.rows tokens.
template <index Width, fixed_format X, class B, fixed_format Y>
void add_branch(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
                const random_origin& origin, index* first_bad);

/// The x of which add_branch made y. x may be y.
template <index Width, fixed_format Y, class B, fixed_format X>
void take_branch(stream_ref stream, matrix_view<Y> y, matrix_view<B> branch, matrix_view<X> x, const piece_rows& pieces, const branch_drop& drop,
                 const random_origin& origin, index* first_bad);

/// x[t, Width] += other: of two streams in range no sum wraps.
template <index Width, fixed_format X, fixed_format O>
void add_stream(stream_ref stream, matrix_view<X> x, matrix_view<O> other);

/// The x that there was before.
template <index Width, fixed_format X, fixed_format O>
void take_stream(stream_ref stream, matrix_view<X> x, matrix_view<O> other);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/fixed_stream.cuh>
