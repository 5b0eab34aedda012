// SPDX-License-Identifier: Apache-2.0
//
// The end of a branch of a block, in one pass over memory:
//
//   y = x + s(document) · dropout(branch)        s = 0 for a document whose branch is dropped, 1 / (1 - p) for the others
//
// Stochastic depth is drawn per document and layer, from the same site as the dropout mask, so a packed batch drops what the
// documents alone would. The stream's sum is one fma and one rounding: y = fma(branch, factor, x), factor = both scales.
//
// References: G. Huang et al., "Deep Networks with Stochastic Depth", arXiv:1603.09382; core/philox.hpp for the draws.
#pragma once

#include <longspan/host/dropout.hpp>

namespace longspan::host {

/// y = x + s·dropout(branch). All [tokens, width] with tokens = pieces.count; y may be x or branch. Where an element or a
/// document is dropped, y = x to the bit. Deterministic. Throws bad_argument if shapes or the table do not fit.
template <class X, class B, class Y>
    requires storage_format<std::remove_const_t<X>> && storage_format<std::remove_const_t<B>> && storage_format<Y>
void residual(matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
              const random_site& site);

/// dbranch = s·dropout(dy), with the forward pass's mask. (The stream's own gradient is dy itself.) dbranch may be dy.
template <class G, class D>
    requires storage_format<std::remove_const_t<G>> && storage_format<D>
void residual_backward(matrix_view<G> dy, matrix_view<D> dbranch, const piece_rows& pieces, const branch_drop& drop,
                       const random_site& site);

}  // namespace longspan::host

#include <longspan/host/detail/residual.hpp>
