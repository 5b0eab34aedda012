// SPDX-License-Identifier: Apache-2.0
//
// The bodies of host/activation.hpp: three functions with their derivatives, and the two ways of walking rows with one.
#pragma once

#include <longspan/host/activation.hpp>
#include <longspan/host/simd.hpp>

namespace longspan::host {

namespace detail {

inline constexpr index activation_rows = 8;  // rows of a task

/// A function's value and its derivative. Where only the value is used, the compiler drops the derivative.
template <class T>
struct slope {
    pack<T> value, derivative;
};

struct silu_function {
    /// silu'(x) = σ(x)(1 + x(1 − σ(x))).
    template <class T>
    [[nodiscard]] LONGSPAN_INLINE slope<T> operator()(pack<T> x) const {
        const pack<T> s = sigmoid(x), one = pack<T>::broadcast(1);
        return {x * s, s * fma(x, one - s, one)};
    }
};

struct gelu_function {
    /// gelu'(x) = Φ(x) + x·φ(x).
    template <class T>
    [[nodiscard]] LONGSPAN_INLINE slope<T> operator()(pack<T> x) const {
        const pack<T> cdf = normal_cdf(x);
        const pack<T> density = exp(x * x * pack<T>::broadcast(T(-0.5))) * pack<T>::broadcast(T(0.39894228040143267794));
        return {x * cdf, fma(x, density, cdf)};
    }
};

struct gelu_tanh_function {
    template <class T>
    [[nodiscard]] LONGSPAN_INLINE slope<T> operator()(pack<T> x) const {
        const pack<T> one = pack<T>::broadcast(1), half = pack<T>::broadcast(T(0.5)), limit = pack<T>::broadcast(16);
        const pack<T> root = pack<T>::broadcast(T(0.79788456080286535588));  // √(2/π)
        // tanh is 1 to the last bit beyond 16; without the limit, x³ overflows and ∞ · 0 follows.
        const pack<T> u = max(-limit, min(limit, x));
        const pack<T> square = u * u;
        const pack<T> t = tanh(root * (u * fma(square, pack<T>::broadcast(T(0.044715)), one)));
        const pack<T> inner = root * fma(square, pack<T>::broadcast(T(0.134145)), one);
        const pack<T> both = half * (one + t);
        return {x * both, fma(half * u * fma(-t, t, one), inner, both)};
    }
};

template <class X, class Y, class Function>
void activate(const char* op, matrix_view<X> x, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    static_assert(one_arithmetic<X, Y>, "an activation's x and y are both double, or neither is");
    expect_same_shape(op, "x and y", x, y);
    for_row_blocks(x.rows, activation_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t)
            for_packs<T>(x.columns, [&](index at, index count) { write(function(read<T>(x.row(t), at, count)).value, y.row(t), at, count); });
    });
}

template <class DY, class X, class DX, class Y, class Function>
void activate_backward(const char* op, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    static_assert(one_arithmetic<DY, X, DX, Y>, "an activation's dy, x, dx and y are all double, or none is");
    expect_same_shape(op, "dy and x", dy, x);
    expect_same_shape(op, "dx and x", dx, x);
    if (y.data) expect_same_shape(op, "y and x", y, x);
    for_row_blocks(x.rows, activation_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for_packs<T>(x.columns, [&](index at, index count) {
                const slope<T> s = function(read<T>(x.row(t), at, count));
                const pack<T> d = read<T>(dy.row(t), at, count) * s.derivative;
                if (y.data) write(s.value, y.row(t), at, count);
                write(d, dx.row(t), at, count);
            });
        }
    });
}

template <class X, class Y, class Function>
void activate_gated(const char* op, matrix_view<X> x, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    static_assert(one_arithmetic<X, Y>, "an activation's x and y are both double, or neither is");
    const index f = y.columns;
    expect_same_extent(op, "x.columns", x.columns, "2 · y.columns", 2 * f);
    expect_same_extent(op, "x.rows", x.rows, "y.rows", y.rows);
    for_row_blocks(x.rows, activation_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for_packs<T>(f, [&](index at, index count) {
                const pack<T> gate = function(read<T>(x.row(t), at, count)).value;
                write(gate * read<T>(x.row(t) + f, at, count), y.row(t), at, count);
            });
        }
    });
}

template <class DY, class X, class DX, class Y, class Function>
void activate_gated_backward(const char* op, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y, Function function) {
    using T = compute_t<X>;
    static_assert(one_arithmetic<DY, X, DX, Y>, "an activation's dy, x, dx and y are all double, or none is");
    const index f = dy.columns;
    expect_same_shape(op, "dx and x", dx, x);
    expect_same_extent(op, "x.columns", x.columns, "2 · dy.columns", 2 * f);
    expect_same_extent(op, "x.rows", x.rows, "dy.rows", dy.rows);
    if (y.data) expect_same_shape(op, "dy and y", dy, y);
    for_row_blocks(x.rows, activation_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for_packs<T>(f, [&](index at, index count) {
                const slope<T> gate = function(read<T>(x.row(t), at, count));
                const pack<T> up = read<T>(x.row(t) + f, at, count), d = read<T>(dy.row(t), at, count);
                if (y.data) write(gate.value * up, y.row(t), at, count);
                write(d * up * gate.derivative, dx.row(t), at, count);
                write(d * gate.value, dx.row(t) + f, at, count);
            });
        }
    });
}

}  // namespace detail

template <storage X, storage_format Y>
void silu_gated(matrix_view<X> x, matrix_view<Y> y) {
    detail::activate_gated("silu_gated", x, y, detail::silu_function{});
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void silu_gated_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::activate_gated_backward("silu_gated_backward", dy, x, dx, y, detail::silu_function{});
}
template <storage X, storage_format Y>
void gelu_gated(matrix_view<X> x, matrix_view<Y> y) {
    detail::activate_gated("gelu_gated", x, y, detail::gelu_function{});
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void gelu_gated_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::activate_gated_backward("gelu_gated_backward", dy, x, dx, y, detail::gelu_function{});
}
template <storage X, storage_format Y>
void gelu(matrix_view<X> x, matrix_view<Y> y) {
    detail::activate("gelu", x, y, detail::gelu_function{});
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void gelu_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::activate_backward("gelu_backward", dy, x, dx, y, detail::gelu_function{});
}
template <storage X, storage_format Y>
void gelu_tanh(matrix_view<X> x, matrix_view<Y> y) {
    detail::activate("gelu_tanh", x, y, detail::gelu_tanh_function{});
}
template <storage DY, storage X, storage_format DX, storage_format Y>
void gelu_tanh_backward(matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    detail::activate_backward("gelu_tanh_backward", dy, x, dx, y, detail::gelu_tanh_function{});
}

}  // namespace longspan::host
