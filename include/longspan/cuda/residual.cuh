// SPDX-License-Identifier: Apache-2.0
//
// How a branch joins the stream: y = x + factor · branch where an element's byte and its document's word say so (dropout and
// stochastic depth), else y = x to the bit. The twin of host/residual.hpp, with its draws: they are functions of (seed, step, layer,
// site; document, position, channel), so nothing is stored for the backward.
//
// One Philox block serves 16 channels of a token. Traffic: 3 tensors forward, 2 backward.
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

/// y[t, Width] = x + thin(branch), one fma and one rounding; y may be x or branch. `pieces` lie in device memory and cover x.rows
/// tokens. Deterministic. Throws bad_argument where shapes or pointers do not fit.
template <index Width, class X, class B, class Y>
void residual(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
              const random_origin& origin);

/// d_branch[t, Width] = thin(dy) by the same draws; d_branch may be dy.
template <index Width, class G, class D>
void residual_backward(stream_ref stream, matrix_view<G> dy, matrix_view<D> d_branch, const piece_rows& pieces, const branch_drop& drop,
                       const random_origin& origin);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/residual.cuh>
