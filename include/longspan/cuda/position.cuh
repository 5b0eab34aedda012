// SPDX-License-Identifier: Apache-2.0
//
// Positions that are added to the embedding, learned or sinusoidal: the twin of host/position.hpp. A position is that of a token
// within its document; padding counts round the learned table, and so would a position beyond it.
//
// The learned table's gradient is a sum over pieces in their order, each element by one thread: deterministic, the host's bits.
// Sinusoids are right to 2·10⁻¹⁶ at any position, and rounded once. Traffic: x read and written once; backward: dx and the table.
#pragma once

#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/pieces.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// x[t, Width] += table[position of t], rounded once. `pieces` lie in device memory and cover x.rows tokens. Throws bad_argument where
/// shapes or pointers do not fit.
template <index Width, class W, class X>
void add_learned_positions(stream_ref stream, const piece_table& pieces, matrix_view<W> table, matrix_view<X> x);

/// d_table[p, Width] += Σ dx[t] over the tokens at position p, in the order of the batch. Deterministic.
template <index Width, class DX, class DW>
void learned_positions_backward(stream_ref stream, const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> d_table);

/// x[t, 2j] += sin(p / 10000^(2j / Width)), x[t, 2j + 1] += cos of the same, p the position of t (arXiv:1706.03762); rounded once.
template <index Width, class X>
void add_sinusoidal_positions(stream_ref stream, const piece_table& pieces, matrix_view<X> x);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/position.cuh>
