// SPDX-License-Identifier: Apache-2.0
//
// Elementary functions of packs: exp, exp2, log, tanh, sigmoid, erf and the normal distribution function. Sums, products and
// explicit fma only, so a value's bits are the same on every machine with IEEE arithmetic, whichever loop inlines them; the C
// library's would follow its version. Each is within 2 units in the last place of the exact value over the whole line.
//
// References: W. Cody, W. Waite, "Software Manual for the Elementary Functions", 1980 (range reduction); S. Moshier, Cephes
// (float exp, tanh); Sun's fdlibm (log); N. Juffa's minimax erf.
#pragma once

#include <longspan/host/pack.hpp>

namespace longspan::host {

/// e^x. Overflow gives inf, NaN stays NaN, and a result below the smallest normal number is 0: a far key's weight must not drag
/// the product behind a softmax into the slow arithmetic of subnormals.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> exp(pack<T> x);

/// 2^x, with exp's edges; exact for whole x. Softmax's choice: the scale by log2(e) joins the score's.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> exp2(pack<T> x);

/// The natural logarithm: log(0) = -inf, log of a negative value is NaN, log(inf) = inf.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> log(pack<T> x);

template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> tanh(pack<T> x);

/// 1 / (1 + e^-x), accurate in both tails.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> sigmoid(pack<T> x);

/// The error function; in double it is the C library's, lane by lane (double is for checks).
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> erf(pack<T> x);

/// Φ(x) = (1 + erf(x / √2)) / 2, with an absolute error of one float's epsilon: gelu(x) = x·Φ(x).
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> normal_cdf(pack<T> x);

}  // namespace longspan::host

#include <longspan/host/detail/simd.hpp>
