// SPDX-License-Identifier: Apache-2.0
//
// Activations of the MLP, forward and backward: the twin of host/activation.hpp. The backward takes the pre-activation and makes the
// activation again in the same pass, since the next product's weight gradient reads it.
//
//     silu_gated   y = silu(a)·b of x = [a | b], each Hidden wide; silu(a) = a / (1 + e^−a)
//     gelu_gated   y = gelu(a)·b
//     gelu         y = x·Φ(x), with the error function
//     gelu_tanh    y = x/2·(1 + tanh(√(2/π)(x + 0.044715x³)))
//
// Traffic: each tensor once. Arithmetic in float, one rounding per result.
#pragma once

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

namespace detail {

inline constexpr int activation_threads = 256;

/// f(x) and f'(x).
struct value_and_slope {
    float value, slope;
};

struct silu_function {
    __device__ static value_and_slope at(float x) {
        const float sigmoid = __fdividef(1.0f, 1.0f + __expf(-x));  // within 2^-21; x beyond 88 gives 0 and 1
        const float value = x > -88.0f ? x * sigmoid : 0.0f;
        return {value, fmaf(value, 1.0f - sigmoid, x > -88.0f ? sigmoid : 0.0f)};
    }
};
struct gelu_function {
    __device__ static value_and_slope at(float x) {
        const float below = 0.5f * (1.0f + erff(x * 0.70710678118654752f));
        return {x * below, fmaf(x * 0.39894228040143268f, __expf(-0.5f * x * x), below)};
    }
};
struct gelu_tanh_function {
    __device__ static value_and_slope at(float x) {
        const float square = x * x, inner = 0.79788456080286536f * x * fmaf(0.044715f, square, 1.0f);
        // (1 + tanh u) / 2 = 1 / (1 + e^−2u)
        const float half = inner > -44.0f ? __fdividef(1.0f, 1.0f + __expf(-2.0f * inner)) : 0.0f;
        const float slope = 0.79788456080286536f * fmaf(3.0f * 0.044715f, square, 1.0f);
        return {x * half, fmaf(2.0f * x * half * (1.0f - half), slope, half)};
    }
};

template <class Function, index Hidden, bool Gated, class X, class Y>
__global__ void __launch_bounds__(activation_threads) activation_kernel(matrix_view<const X> x, matrix_view<Y> y) {
    constexpr int n = common_packet<Hidden, X, Y>;
    constexpr index packets = Hidden / n;
    const index i = blockIdx.x * index{activation_threads} + threadIdx.x, t = i / packets, c = i % packets * n;
    if (t >= y.rows) return;
    float a[n], b[n];
    read(x.row(t) + c, a);
    if constexpr (Gated) read(x.row(t) + Hidden + c, b);
#pragma unroll
    for (int j = 0; j < n; ++j) {
        const float value = Function::at(a[j]).value;
        a[j] = Gated ? value * b[j] : value;
    }
    write(y.row(t) + c, a);
}

template <class Function, index Hidden, bool Gated, bool Again, class DY, class X, class DX, class Y>
__global__ void __launch_bounds__(activation_threads) activation_backward_kernel(matrix_view<const DY> dy, matrix_view<const X> x, matrix_view<DX> dx,
                                                                                 matrix_view<Y> y) {
    constexpr int n = common_packet<Hidden, DY, X, DX, Y>;
    constexpr index packets = Hidden / n;
    const index i = blockIdx.x * index{activation_threads} + threadIdx.x, t = i / packets, c = i % packets * n;
    if (t >= dx.rows) return;
    float d[n], a[n], b[n], again[n];
    read(dy.row(t) + c, d);
    read(x.row(t) + c, a);
    if constexpr (Gated) read(x.row(t) + Hidden + c, b);
#pragma unroll
    for (int j = 0; j < n; ++j) {
        const value_and_slope f = Function::at(a[j]);
        if constexpr (Gated) {
            again[j] = f.value * b[j];
            a[j] = d[j] * b[j] * f.slope;
            b[j] = d[j] * f.value;
        } else {
            again[j] = f.value;
            a[j] = d[j] * f.slope;
        }
    }
    write(dx.row(t) + c, a);
    if constexpr (Gated) write(dx.row(t) + Hidden + c, b);
    if constexpr (Again) write(y.row(t) + c, again);
}

template <class Function, index Hidden, bool Gated, class X, class Y>
void activation(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<Y> y) {
    using element = std::remove_const_t<X>;
    constexpr int n = common_packet<Hidden, element, Y>;
    expect_view(op, "x", x, y.rows, (Gated ? 2 : 1) * Hidden, n * index{sizeof(X)});
    expect_view(op, "y", y, y.rows, Hidden, n * index{sizeof(Y)});
    if (y.rows == 0) return;
    const auto ctas = static_cast<unsigned>(ceil_div(y.rows * (Hidden / n), activation_threads));
    activation_kernel<Function, Hidden, Gated, element, Y><<<ctas, activation_threads, 0, stream>>>(x, y);
    check_launch(op);
}

template <class Function, index Hidden, bool Gated, class DY, class X, class DX, class Y>
void activation_backward(const char* op, stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y) {
    using dy_element = std::remove_const_t<DY>;
    using element = std::remove_const_t<X>;
    constexpr int n = common_packet<Hidden, dy_element, element, DX, Y>;
    expect_view(op, "dy", dy, dx.rows, Hidden, n * index{sizeof(DY)});
    expect_view(op, "x", x, dx.rows, (Gated ? 2 : 1) * Hidden, n * index{sizeof(X)});
    expect_view(op, "dx", dx, dx.rows, (Gated ? 2 : 1) * Hidden, n * index{sizeof(DX)});
    if (y.data != nullptr) expect_view(op, "y", y, dx.rows, Hidden, n * index{sizeof(Y)});
    if (dx.rows == 0) return;
    const auto ctas = static_cast<unsigned>(ceil_div(dx.rows * (Hidden / n), activation_threads));
    if (y.data != nullptr)
        activation_backward_kernel<Function, Hidden, Gated, true, dy_element, element, DX, Y><<<ctas, activation_threads, 0, stream>>>(dy, x, dx, y);
    else
        activation_backward_kernel<Function, Hidden, Gated, false, dy_element, element, DX, Y><<<ctas, activation_threads, 0, stream>>>(dy, x, dx, y);
    check_launch(op);
}

}  // namespace detail

/// y[t, Hidden] = silu(a)·b of x[t, 2·Hidden] = [a | b].
template <index Hidden, class X, class Y>
void silu_gated(stream_ref stream, matrix_view<X> x, matrix_view<Y> y) {
    detail::activation<detail::silu_function, Hidden, true>("silu_gated", stream, x, y);
}
/// dx[t, 2·Hidden] from dy[t, Hidden] and x; writes y again unless it has no data. dx may be x.
template <index Hidden, class DY, class X, class DX, class Y = DX>
void silu_gated_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {}) {
    detail::activation_backward<detail::silu_function, Hidden, true>("silu_gated_backward", stream, dy, x, dx, y);
}

template <index Hidden, class X, class Y>
void gelu_gated(stream_ref stream, matrix_view<X> x, matrix_view<Y> y) {
    detail::activation<detail::gelu_function, Hidden, true>("gelu_gated", stream, x, y);
}
template <index Hidden, class DY, class X, class DX, class Y = DX>
void gelu_gated_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {}) {
    detail::activation_backward<detail::gelu_function, Hidden, true>("gelu_gated_backward", stream, dy, x, dx, y);
}

/// y[t, Hidden] = gelu(x[t, Hidden]).
template <index Hidden, class X, class Y>
void gelu(stream_ref stream, matrix_view<X> x, matrix_view<Y> y) {
    detail::activation<detail::gelu_function, Hidden, false>("gelu", stream, x, y);
}
template <index Hidden, class DY, class X, class DX, class Y = DX>
void gelu_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {}) {
    detail::activation_backward<detail::gelu_function, Hidden, false>("gelu_backward", stream, dy, x, dx, y);
}

template <index Hidden, class X, class Y>
void gelu_tanh(stream_ref stream, matrix_view<X> x, matrix_view<Y> y) {
    detail::activation<detail::gelu_tanh_function, Hidden, false>("gelu_tanh", stream, x, y);
}
template <index Hidden, class DY, class X, class DX, class Y = DX>
void gelu_tanh_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DX> dx, matrix_view<Y> y = {}) {
    detail::activation_backward<detail::gelu_tanh_function, Hidden, false>("gelu_tanh_backward", stream, dy, x, dx, y);
}

}  // namespace longspan::cuda
