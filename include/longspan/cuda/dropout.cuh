// SPDX-License-Identifier: Apache-2.0
//
// Dropout of [tokens, width] rows: y = byte ≥ threshold ? x · 256 / (256 − threshold) : 0, the twin of host/dropout.hpp with its mask
// to the bit. The mask is a function of (seed, step, layer, site; document, position, channel), so the backward is the same call on
// the gradient. Traffic: 2 tensors.
#pragma once

#include <longspan/cuda/residual.cuh>

namespace longspan::cuda {

/// y[t, Width] = dropout(x), and, given dy, dx = dropout(dy); y may be x. `pieces` lie in device memory and cover x.rows tokens.
/// Deterministic. Throws bad_argument where shapes or pointers do not fit.
template <index Width, class X, class Y>
void dropout(stream_ref stream, matrix_view<X> x, matrix_view<Y> y, const piece_table& pieces, dropout_rate rate, const random_origin& origin) {
    detail::thin_rows<Width, false>("dropout", stream, x, x, y, pieces, {.dropout = rate}, origin);
}

}  // namespace longspan::cuda
