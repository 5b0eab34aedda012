// SPDX-License-Identifier: Apache-2.0
//
// QK-norm and rotary positions in one pass over queries and keys, the twin of host/head_norm_rotary.hpp: each head is normed by the
// weight of its kind, in floats, and turned, and rounded once. One kernel forward; backward one, which turns back and goes through
// the norm, and one that adds up the parts of the weights' gradients, in a fixed order. Traffic: every tensor once, the table of
// angles once a token forward, once for each kind of head backward.
//
// Apart (head_norm twice, rotary; rotary, head_norm_backward twice) they are three launches forward and five backward, and move
// 4 instead of 2 tensors, and 5 instead of 3.
#pragma once

#include <cstddef>

#include <longspan/core/normed_heads.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// y[t, heads·Head] of queries and keys, which are normed_heads; writes their rstd. Deterministic. Throws bad_argument where shapes or
/// pointers do not fit.
template <index Head, class Queries, class Keys, class C>
void head_norm_rotary(stream_ref stream, const Queries& queries, const Keys& keys, double epsilon, matrix_view<C> cosines, matrix_view<C> sines);

/// dx = and dweight += of queries and keys, which are normed_heads_gradient. `workspace`: norm_workspace(Head) bytes at a multiple of 16.
template <index Head, class Queries, class Keys, class C>
void head_norm_rotary_backward(stream_ref stream, const Queries& queries, const Keys& keys, matrix_view<C> cosines, matrix_view<C> sines,
                               std::byte* workspace);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/head_norm_rotary.cuh>
#include <longspan/cuda/detail/head_norm_rotary_backward.cuh>
