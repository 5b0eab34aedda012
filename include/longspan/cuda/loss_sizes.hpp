// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of linear + cross-entropy on the device (cuda/loss.cuh), as constants that plans are made of. No CUDA
// header.
//
// A window of tokens is in flight at a time: its dz [window, v] in the format that the products read, and the logits of a part
// of it, [part, v] floats. Long windows matter: dw [v, c] is read and written once per window.
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

/// Tokens whose logits are made at once, in a window of `window` tokens.
[[nodiscard]] constexpr index loss_part(index window) { return window <= 256 ? window : 256; }

/// Bytes of scratch for windows of `window` tokens whose dz is of format T. For loss and gradients, and for the loss alone.
template <storage_format T>
[[nodiscard]] constexpr bytes loss_workspace(index window, index vocabulary) {
    return gemm_workspace + round_up(window * bytes{sizeof(double)}, workspace_alignment) +
           loss_stride(vocabulary) * (window * bytes{sizeof(T)} + loss_part(window) * bytes{sizeof(float)});
}

/// The longest window, in whole hundreds and twenty-eights of tokens if at least one fits, whose scratch stays within `limit`
/// bytes; no longer than `tokens`, and at least 1.
template <storage_format T>
[[nodiscard]] constexpr index loss_window(index tokens, index vocabulary, bytes limit = 320 * MiB) {
    index window = 1;
    for (index longer = 128; longer <= 8192 && loss_workspace<T>(longer, vocabulary) <= limit; longer += 128) window = longer;
    while (window < 127 && loss_workspace<T>(window + 1, vocabulary) <= limit) ++window;
    return window < tokens ? window : tokens > 1 ? tokens : 1;
}

}  // namespace longspan::cuda
