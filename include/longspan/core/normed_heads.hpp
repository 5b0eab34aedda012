// SPDX-License-Identifier: Apache-2.0
//
// The heads that QK-norm and rotary positions change, queries or keys: arguments of head_norm_rotary, on host and device alike.
#pragma once

#include <longspan/core/view.hpp>

namespace longspan {

/// Heads side by side in each row of x, which one weight norms; y may be x.
template <class X, class W, class Y, class S>
struct normed_heads {
    matrix_view<X> x;      ///< [t, heads·head]
    const W* weight;       ///< [head]
    matrix_view<Y> y;      ///< [t, heads·head]
    matrix_view<S> rstd;   ///< [t, heads], written: what the backward reads
};

/// Their gradients; dx may be dy.
template <class DY, class X, class W, class S, class DX, class DW>
struct normed_heads_gradient {
    matrix_view<DY> dy;    ///< [t, heads·head], of the turned heads
    matrix_view<X> x;      ///< [t, heads·head], as the forward read it
    const W* weight;       ///< [head]
    matrix_view<S> rstd;   ///< [t, heads]
    matrix_view<DX> dx;    ///< [t, heads·head]
    DW* dweight;           ///< [head], added to
};

}  // namespace longspan
