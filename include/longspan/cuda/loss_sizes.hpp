// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of linear + cross-entropy on the device (cuda/loss.cuh), as constants that plans are made of. No CUDA
// header.
//
// A window of tokens is in flight at a time: its dz [window, v] in the format that the products read. Long windows matter, for
// dw [v, c] is read and written once per window. The logits of a window are floats, twice the bytes of a two-byte dz; so they
// are made for a part of it at a time, at the end of the scratch, and shrink into dz at its front:
//
//     | dz of earlier parts | dz of this part ->  ...  |   logits of this part |
//
// which leaves 240 rows beyond dz enough for parts of 512, 320 and 192 of a window of 1024. Products whose depth is split use
// the same rows once the logits are gone. A float dz lies where its logits were, and a window is one part.
#pragma once

#include <type_traits>

#include <longspan/core/cross_entropy_sums.hpp>
#include <longspan/core/types.hpp>
#include <longspan/cuda/gemm_sizes.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda {

/// What first_bad holds when every target is in its range.
inline constexpr index no_bad_target = 0x7fffffffffffffff;

/// Elements from one row of logits, or of dz, to the next.
[[nodiscard]] constexpr index loss_stride(index vocabulary) { return round_up(vocabulary, 128); }

/// Rows of scratch beyond a window's two-byte dz: the logits of a last part of 192 rows, and 48 rows so that the first of its
/// rows of dz do not wait for each other.
[[nodiscard]] constexpr index loss_spare_rows(index window) { return window < 240 ? window + 1 : 240; }

/// Bytes of the scratch that logits and dz share, with the workspace of the products behind dz.
template <storage_format T>
[[nodiscard]] constexpr bytes loss_rows_bytes(index window, index vocabulary) {
    const bytes row = loss_stride(vocabulary) * bytes{sizeof(T)};
    const bytes spare = sizeof(T) == sizeof(float) ? 0 : loss_spare_rows(window) * row;
    return window * row + (spare > gemm_workspace ? spare : gemm_workspace);
}

/// Bytes of what is noted about the rows of a window: four floats for the loss of each, two ints for who takes it when.
[[nodiscard]] constexpr bytes loss_notes_bytes(index window) { return round_up(window * bytes{16 + 8}, workspace_alignment); }

/// Bytes of scratch for windows of `window` tokens whose dz is of format T. For loss and gradients, and for the loss alone.
template <storage_format T>
[[nodiscard]] constexpr bytes loss_workspace(index window, index vocabulary) {
    return loss_notes_bytes(window) + loss_rows_bytes<T>(window, vocabulary);
}

/// The longest window whose scratch stays within `limit` bytes, a multiple of 128 tokens where one fits; no longer than `tokens`
/// and 8192, and at least 1.
template <storage_format T>
[[nodiscard]] constexpr index loss_window(index tokens, index vocabulary, bytes limit = 320 * MiB) {
    index window = 1;
    for (index longer = 128; longer <= 8192 && loss_workspace<T>(longer, vocabulary) <= limit; longer += 128) window = longer;
    while (window < 127 && loss_workspace<T>(window + 1, vocabulary) <= limit) ++window;
    return window < tokens ? window : tokens > 1 ? tokens : 1;
}

namespace detail {

/// Tokens of the next part of a window of `rows` tokens, `before` of which have their dz: whole 512s or 64s, as products like.
template <storage_format T>
[[nodiscard]] constexpr index loss_part(index window, index vocabulary, index before, index rows) {
    if (sizeof(T) == sizeof(float)) return rows - before;
    const bytes row = loss_stride(vocabulary) * bytes{sizeof(T)}, logits = loss_stride(vocabulary) * bytes{sizeof(float)};
    const bytes free = loss_rows_bytes<T>(window, vocabulary) - before * row;
    const index apart = loss_spare_rows(window) < 10 ? 1 : loss_spare_rows(window) / 5;  // rows of dz before the first on logits
    index fit = (free - apart * row) / logits;
    if (fit < 1) fit = 1;
    if (fit > 64) fit -= fit % (fit > 512 ? 512 : 64);
    return fit < rows - before ? fit : rows - before;
}

/// How far into a part's rows one launch may write two-byte dz when the rows before `done` are finished: dz of row r falls on
/// the logits of row (r - lead) / 2, which must not be another row of the launch.
[[nodiscard]] constexpr index loss_rows_until(index lead, index done, index rows) {
    const index until = lead + 2 * done;
    return until >= rows ? rows : until > done ? until : done + 1;
}

}  // namespace detail

}  // namespace longspan::cuda
