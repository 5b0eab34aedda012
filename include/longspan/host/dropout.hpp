// SPDX-License-Identifier: Apache-2.0
//
// Dropout of [tokens, width] rows. The mask is a function of (seed, step, layer, site; document, position, channel) alone (see
// core/philox.hpp), so it needs no memory, the backward pass is the same call on the gradient, and a document's mask is the
// same wherever it lies in whichever batch. One Philox call decides 16 elements.
//
//   y = byte ≥ threshold ? x · 256 / (256 - threshold) : 0
#pragma once

#include <longspan/core/dropout.hpp>
#include <longspan/core/philox.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/pack.hpp>

namespace longspan::host {

/// y = dropout(x), and, given dy, dx = dropout(dy). x, y: [tokens, width] with tokens = pieces.tokens; y may be x. Deterministic.
/// Throws bad_argument if shapes or the table do not fit.
template <class X, class Y>
    requires storage_format<std::remove_const_t<X>> && storage_format<Y>
void dropout(matrix_view<X> x, matrix_view<Y> y, const piece_table& pieces, dropout_rate rate, const random_site& site);

/// out[r, 16·g + b], [rows, 16·groups] contiguous: byte b of the block whose counter is `first` with r added to word 1 (the
/// position or query) and g to word 2 (the group of channels or keys). For token_counter and attention_map_counter.
inline void random_bytes(philox_key key, const philox_block& first, index rows, index groups, std::uint8_t* out);

/// Which of the pack's lanes are kept: bytes[lane] ≥ threshold.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack_mask<T> keep_mask(const std::uint8_t* bytes, std::uint32_t threshold);

}  // namespace longspan::host

#include <longspan/host/detail/dropout.hpp>
