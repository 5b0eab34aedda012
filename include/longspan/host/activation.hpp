// SPDX-License-Identifier: Apache-2.0
//
// The MLP's activations, forward and backward. Backward makes the activation again in the same pass, with the forward's bits, so
// that a step need not keep it.
//
//     silu_gated  x = [gate | up] of [t, 2f]:  y[t, f] = gate · sigmoid(gate) · up       (SwiGLU, arXiv:2002.05202)
//     gelu        y = x · Φ(x)                                                           (arXiv:1606.08415)
//     gelu_tanh   y = x · (1 + tanh(√(2/π)(x + 0.044715 x³))) / 2                        (GPT-2's)
//
// Elementwise and memory-bound. Deterministic; a value's bits do not depend on its place. Allocates nothing.
#pragma once

#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/parallel.hpp>
#include <longspan/host/simd.hpp>

namespace longspan::host {

namespace detail {

inline constexpr index activation_rows = 8;

/// A value and its derivative.
template <class T>
struct slope {
    pack<T> value, derivative;
};

/// silu(x) = x·s(x), silu'(x) = s(x)(1 + x(1 − s(x))).
template <class T>
[[nodiscard]] LONGSPAN_INLINE slope<T> silu(pack<T> x) {
    const pack<T> s = sigmoid(x), one = pack<T>::broadcast(1);
    return {x * s, s * fma(x, one - s, one)};
}
template <class T>
[[nodiscard]] LONGSPAN_INLINE slope<T> gelu(pack<T> x) {
    const pack<T> cdf = normal_cdf(x);
    const pack<T> density = exp(x * x * pack<T>::broadcast(T(-0.5))) * pack<T>::broadcast(T(0.39894228040143267794));
    return {x * cdf, fma(x, density, cdf)};
}
template <class T>
[[nodiscard]] LONGSPAN_INLINE slope<T> gelu_tanh(pack<T> x) {
    const pack<T> one = pack<T>::broadcast(1), half = pack<T>::broadcast(T(0.5));
    const pack<T> root = pack<T>::broadcast(T(0.79788456080286535588));  // √(2/π)
    const pack<T> square = x * x;
    const pack<T> t = tanh(root * (x * fma(square, pack<T>::broadcast(T(0.044715)), one)));
    const pack<T> inner = root * fma(square, pack<T>::broadcast(T(0.134145)), one);
    const pack<T> both = half * (one + t);
    return {x * both, fma(half * x * fma(-t, t, one), inner, both)};
}

template <class F>
void for_rows(index rows, F&& f) {
    parallel_for(ceil_div(rows, activation_rows), [&](index task) {
        for (index t = task * activation_rows; t < rows && t < (task + 1) * activation_rows; ++t) f(t);
    });
}

template <class X, class Y, class Function>
void elementwise(const char* op, matrix_view<X> x, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    expect_same_shape(op, "x and y", x, y);
    for_rows(x.rows, [&](index t) {
        for_packs<T>(x.columns, [&](index at, index count) { write(function(read<T>(x.row(t), at, count)).value, y.row(t), at, count); });
    });
}
template <class DY, class X, class DX, class Y, class Function>
void elementwise_backward(const char* op, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    expect_same_shape(op, "dy and x", dy, x);
    expect_same_shape(op, "dx and x", dx, x);
    expect_same_shape(op, "y and x", y, x);
    for_rows(x.rows, [&](index t) {
        for_packs<T>(x.columns, [&](index at, index count) {
            const slope<T> s = function(read<T>(x.row(t), at, count));
            write(s.value, y.row(t), at, count);
            write(read<T>(dy.row(t), at, count) * s.derivative, dx.row(t), at, count);
        });
    });
}

}  // namespace detail

/// y[t, f] = silu(x[t, :f]) · x[t, f:].
template <storage X, storage_format Y>
void silu_gated(matrix_view<X> x, matrix_view<Y> y) {
    using T = compute_t<X>;
    const index f = y.columns;
    detail::expect_same_extent("silu_gated", "x.columns", x.columns, "2 · y.columns", 2 * f);
    detail::expect_same_extent("silu_gated", "x.rows", x.rows, "y.rows", y.rows);
    detail::for_rows(x.rows, [&](index t) {
        detail::for_packs<T>(f, [&](index at, index count) {
            const auto gate = detail::silu(detail::read<T>(x.row(t), at, count)).value;
            detail::write(gate * detail::read<T>(x.row(t) + f, at, count), y.row(t), at, count);
        });
    });
}

/// dx[t, 2f] from dy[t, f]; y[t, f] is the activation again.
template <storage DY, storage X, storage_format DX, storage_format Y>
void silu_gated_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    using T = compute_t<X>;
    const index f = y.columns;
    detail::expect_same_shape("silu_gated_backward", "dx and x", dx, x);
    detail::expect_same_shape("silu_gated_backward", "dy and y", dy, y);
    detail::expect_same_extent("silu_gated_backward", "x.columns", x.columns, "2 · y.columns", 2 * f);
    detail::expect_same_extent("silu_gated_backward", "x.rows", x.rows, "y.rows", y.rows);
    detail::for_rows(x.rows, [&](index t) {
        detail::for_packs<T>(f, [&](index at, index count) {
            const auto gate = detail::silu(detail::read<T>(x.row(t), at, count));
            const auto up = detail::read<T>(x.row(t) + f, at, count), d = detail::read<T>(dy.row(t), at, count);
            detail::write(gate.value * up, y.row(t), at, count);
            detail::write(d * up * gate.derivative, dx.row(t), at, count);
            detail::write(d * gate.value, dx.row(t) + f, at, count);
        });
    });
}

template <storage X, storage_format Y>
void gelu(matrix_view<X> x, matrix_view<Y> y) {
    detail::elementwise("gelu", x, y, [](auto v) { return detail::gelu(v); });
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void gelu_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::elementwise_backward("gelu_backward", dy, x, dx, y, [](auto v) { return detail::gelu(v); });
}
template <storage X, storage_format Y>
void gelu_tanh(matrix_view<X> x, matrix_view<Y> y) {
    detail::elementwise("gelu_tanh", x, y, [](auto v) { return detail::gelu_tanh(v); });
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void gelu_tanh_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::elementwise_backward("gelu_tanh_backward", dy, x, dx, y, [](auto v) { return detail::gelu_tanh(v); });
}

}  // namespace longspan::host
