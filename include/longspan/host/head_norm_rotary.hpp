// SPDX-License-Identifier: Apache-2.0
//
// QK-norm and rotary positions in one pass: each head of queries and keys is normed by the weight of its kind and turned,
//
//     n = x · r · w,  r = 1 / √(mean(x²) + ε) over a head          y₁ = n₁·cos − n₂·sin,  y₂ = n₂·cos + n₁·sin
//
// with n in the arithmetic's format between the two: one rounding where head_norm and rotary have two. The backward turns dy back and
// goes through the norm, whose weights' gradients sum panels of 16 rows, then panels in order. Traffic: every tensor once. Allocates
// nothing (128 KiB of stack in backward). Deterministic. Throws bad_argument where shapes do not fit.
// References: Dehghani et al. (QK-norm), arXiv:2302.05442; Su et al. (rotary), arXiv:2104.09864.
#pragma once

#include <longspan/core/normed_heads.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/rotary.hpp>

namespace longspan::host {

/// y[t, heads·head] of queries and keys; writes their rstd[t, heads].
template <class Queries, class Keys, storage C>
void head_norm_rotary(const Queries& queries, const Keys& keys, index head, double epsilon, matrix_view<C> cosines, matrix_view<C> sines);

/// dx[t, heads·head] = and dweight[head] += of queries and keys.
template <class Queries, class Keys, storage C>
void head_norm_rotary_backward(const Queries& queries, const Keys& keys, index head, matrix_view<C> cosines, matrix_view<C> sines);

}  // namespace longspan::host

#include <longspan/host/detail/head_norm_rotary.hpp>
