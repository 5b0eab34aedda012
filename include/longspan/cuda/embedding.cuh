// SPDX-License-Identifier: Apache-2.0
//
// Rows of a table by token id, x[t] = table[tokens[t]], and the sum of their gradients, dtable[id] += Σ dx[t] over tokens[t] = id:
// the twin of host/embedding.hpp.
//
// The backward reads the batch's permutation, token indices sorted by (id, index), in pieces of 32 to 128 places. A run of one id
// inside a piece is summed in registers and added to its row; a run that crosses pieces leaves a partial row in each, which a second
// kernel adds up in order. So an id that owns a tenth of the tokens costs no more than others, and no sum depends on who comes first.
// Traffic: dx once, each row that occurs read and written once; at most a 16th of dx (in bf16) for partial rows.
#pragma once

#include <cstddef>
#include <cstdint>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/embedding_sizes.hpp>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

/// x[t, Width] = table[tokens[t], :]. An id outside [0, table.rows) reads row 0 and lowers *first_bad (null allowed) to its token.
/// Rows start at multiples of 16 bytes where Width lets them. Throws bad_argument where shapes or pointers do not fit.
template <index Width, class W, class X>
void embed(stream_ref stream, const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x, index* first_bad);

/// d_table[id, Width] += Σ dx[t, :] over the tokens of that id, in the order of `sorted`: token indices by (id, index). Tokens whose
/// id is outside [0, d_table.rows) add nothing. `workspace`: embedding_backward_workspace() bytes at a multiple of 16.
/// Deterministic.
template <index Width, class DX, class DW>
void embedding_backward(stream_ref stream, matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> d_table,
                        std::byte* workspace);

}  // namespace longspan::cuda

#include <longspan/cuda/detail/embedding.cuh>
