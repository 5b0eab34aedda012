// SPDX-License-Identifier: Apache-2.0
//
// Forward bodies of cuda/norm.cuh: one kernel for all, its parts chosen at compile time.
#pragma once

#include <longspan/cuda/detail/norm_rows.cuh>

namespace longspan::cuda {

namespace detail {

template <class X, class B, class R, class W, class Y>
struct norm_call {
    head_rows<const X> x;
    head_rows<const B> branch;  // with Sum
    head_rows<R> sum;
    head_rows<Y> y;
    const W* weight = nullptr;
    const W* bias = nullptr;    // with Centred
    float* mean = nullptr;
    float* rstd = nullptr;
    index rows = 0;
    float epsilon = 0;
};

template <index Width, bool Centred, bool Sum, class X, class B, class R, class W, class Y>
__global__ void __launch_bounds__(norm_threads, 2) norm_kernel(const __grid_constant__ norm_call<X, B, R, W, Y> call) {
    using shape = row_shape<Width, 4, X, B, R, W, Y>;
    constexpr int n = shape::n, each = shape::each;
    constexpr bool ahead = each <= 4;
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes;
    struct held {
        held_row<shape, X> x;
        held_row<shape, B> branch;
    };
    const auto load = [&](index r, held& to) {
        if (r >= call.rows) return;
        to.x.load(call.x.template row<Width>(r), lane);
        if constexpr (Sum) to.branch.load(call.branch.template row<Width>(r), lane);
    };
    const index step = gridDim.x * index{shape::rows};
    index r = blockIdx.x * index{shape::rows} + threadIdx.x / shape::lanes;
    held next{};
    if constexpr (ahead) load(r, next);
    for (index base = blockIdx.x * index{shape::rows}; base < call.rows; base += step, r += step) {
        held now = next;
        if constexpr (ahead) load(r + step, next);
        else load(r, now);
        const bool live = r < call.rows;
        float x[each][n];
        float mean = 0;
#pragma unroll
        for (int k = 0; k < each; ++k) {
#pragma unroll
            for (int j = 0; j < n; ++j) {
                x[k][j] = live ? now.x.of(lane, k, j) : 0.0f;
                if constexpr (Sum) x[k][j] = live ? widen(narrow<R>(x[k][j] + now.branch.of(lane, k, j))) : 0.0f;
                if constexpr (Centred) mean += x[k][j];
            }
            if constexpr (Sum) {
                if (live && shape::has(lane, k)) write(call.sum.template row<Width>(r) + shape::column(lane, k), x[k]);
            }
        }
        if constexpr (Centred) mean = sum_over_lanes<shape::lanes>(mean) / static_cast<float>(Width);
        float squares = 0;
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
#pragma unroll
            for (int j = 0; j < n; ++j) {
                x[k][j] -= mean;
                squares = fmaf(x[k][j], x[k][j], squares);
            }
        }
        const float rstd = 1.0f / sqrtf(sum_over_lanes<shape::lanes>(squares) / static_cast<float>(Width) + call.epsilon);
        if (!live) continue;
        if (lane == 0) {
            call.rstd[r] = rstd;
            if constexpr (Centred) call.mean[r] = mean;
        }
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            const int c = shape::column(lane, k);
            float w[n], b[n] = {};
            read(call.weight + c, w);
            if constexpr (Centred) read(call.bias + c, b);
#pragma unroll
            for (int j = 0; j < n; ++j) x[k][j] = Centred ? fmaf(x[k][j] * rstd, w[j], b[j]) : x[k][j] * rstd * w[j];
            write(call.y.template row<Width>(r) + c, x[k]);
        }
    }
}

template <index Width, bool Centred, bool Sum, class X, class B, class R, class W, class Y>
void norm_forward(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, const W* bias,
                  double epsilon, matrix_view<Y> y, float* mean, float* rstd, index heads = 1) {
    using x_element = std::remove_const_t<X>;
    using b_element = std::remove_const_t<B>;
    using shape = row_shape<Width, 4, x_element, b_element, R, W, Y>;
    constexpr index n = shape::n;
    expect_view(op, "x", x, x.rows, heads * Width, n * index{sizeof(X)});
    expect_view(op, "y", y, x.rows, heads * Width, n * index{sizeof(Y)});
    if constexpr (Sum) {
        expect_view(op, "the branch", branch, x.rows, Width, n * index{sizeof(B)});
        expect_view(op, "the sum", sum, x.rows, Width, n * index{sizeof(R)});
    }
    if (x.rows == 0) return;
    expect_pointer(op, "the weight", weight, n * index{sizeof(W)});
    expect_pointer(op, "rstd", rstd, sizeof(float));
    if constexpr (Centred) {
        expect_pointer(op, "the bias", bias, n * index{sizeof(W)});
        expect_pointer(op, "mean", mean, sizeof(float));
    }
    norm_call<x_element, b_element, R, W, Y> call;
    call.x = {x, heads};
    if constexpr (Sum) call.branch = {branch, 1}, call.sum = {sum, 1};
    call.y = {y, heads};
    call.weight = weight, call.bias = bias, call.mean = mean, call.rstd = rstd;
    call.rows = x.rows * heads;
    call.epsilon = static_cast<float>(epsilon);
    const index wanted = ceil_div(call.rows, shape::rows), ctas = wanted < 2 * norm_parts ? wanted : 2 * norm_parts;
    norm_kernel<Width, Centred, Sum, x_element, b_element, R, W, Y><<<static_cast<unsigned>(ctas), norm_threads, 0, stream>>>(call);
    check_launch(op);
}

}  // namespace detail

template <index Width, class X, class W, class Y, class S>
void rms_norm(stream_ref stream, matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::norm_forward<Width, false, false>("rms_norm", stream, x, matrix_view<const Y>{}, matrix_view<Y>{}, weight, static_cast<const W*>(nullptr),
                                              epsilon, y, nullptr, rstd);
}
template <index Width, class X, class B, class R, class W, class Y, class S>
void add_rms_norm(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, double epsilon, matrix_view<Y> y,
                  S* rstd) {
    detail::norm_forward<Width, false, true>("add_rms_norm", stream, x, branch, sum, weight, static_cast<const W*>(nullptr), epsilon, y, nullptr, rstd);
}
template <index Width, class X, class W, class Y, class S>
void layer_norm(stream_ref stream, matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
    detail::norm_forward<Width, true, false>("layer_norm", stream, x, matrix_view<const Y>{}, matrix_view<Y>{}, weight, bias, epsilon, y, mean, rstd);
}
template <index Width, class X, class B, class R, class W, class Y, class S>
void add_layer_norm(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, const W* bias, double epsilon,
                    matrix_view<Y> y, S* mean, S* rstd) {
    detail::norm_forward<Width, true, true>("add_layer_norm", stream, x, branch, sum, weight, bias, epsilon, y, mean, rstd);
}
template <index Head, class X, class W, class Y, class S>
void head_norm(stream_ref stream, matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::norm_forward<Head, false, false>("head_norm", stream, x, matrix_view<const Y>{}, matrix_view<Y>{}, weight, static_cast<const W*>(nullptr),
                                             epsilon, y, nullptr, rstd, x.columns / Head);
}

}  // namespace longspan::cuda
