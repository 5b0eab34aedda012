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
struct norm_shape : row_shape<Width, 3, X, B, R, Y> {
    using base = row_shape<Width, 3, X, B, R, Y>;
    using parameters = held_parameters<W, base::n>;
    static constexpr int stages = stages_within(48 << 10, bytes{base::each} * norm_threads * base::n * (sizeof(X) + (Sum ? sizeof(B) : 0)));
    static constexpr int resident = base::each > 3 ? 2 : Centred ? 3 : 4;  // thread blocks of a multiprocessor
    static constexpr bool keeps_weights = base::each * parameters::size * (Centred ? 2 : 1) <= 64;  // bytes of registers
    using x_source = row_source<base, stages, X>;
    using branch_source = row_source<base, stages, B>;
    static constexpr int memory = x_source::size + (Sum ? branch_source::size : 0);
};

/// Of a row whose packets are `x`: about 0 unless Centred.
template <class Shape, bool Centred, int Each, int N>
__device__ __forceinline__ row_moments moments_of(const float (&x)[Each][N], int lane, int& turn) {
    row_moments of{};
    if constexpr (Centred) {
#pragma unroll
        for (int k = 0; k < Each; ++k)
#pragma unroll
            for (int j = 0; j < N; ++j) of.mean += x[k][j];
        if constexpr (Shape::whole) of.mean /= static_cast<float>(Each * N);
        else of.mean = sum_over_lanes<Shape::lanes>(of.mean, turn) / static_cast<float>(Shape::packets * N);
    }
#pragma unroll
    for (int k = 0; k < Each; ++k) {
        if (!Shape::has(lane, k)) continue;
#pragma unroll
        for (int j = 0; j < N; ++j) of.squares = fmaf(x[k][j] - of.mean, x[k][j] - of.mean, of.squares);
    }
    if constexpr (Centred && Shape::whole) return moments_over_lanes<Shape::lanes>(of, Each * N, turn);
    of.squares = sum_over_lanes<Shape::lanes>(of.squares, turn);
    return of;
}

template <index Width, bool Centred, bool Sum, class X, class B, class R, class W, class Y>
__global__ void __launch_bounds__(norm_threads, norm_shape<Width, Centred, Sum, X, B, R, W, Y>::resident)
    norm_kernel(const __grid_constant__ norm_call<X, B, R, W, Y> call) {
    using shape = norm_shape<Width, Centred, Sum, X, B, R, W, Y>;
    constexpr int n = shape::n, each = shape::each, stages = shape::stages;
    extern __shared__ uint4 rows_coming[];
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes;
    typename shape::x_source x_rows(reinterpret_cast<std::byte*>(rows_coming));
    typename shape::branch_source branch_rows(reinterpret_cast<std::byte*>(rows_coming) + shape::x_source::size);
    typename shape::parameters weight[shape::keeps_weights ? each : 1], bias[shape::keeps_weights ? each : 1];
    const auto load_weights = [&](int to, int k) {
        weight[to].load(call.weight + shape::column(lane, k));
        if constexpr (Centred) bias[to].load(call.bias + shape::column(lane, k));
    };
    if constexpr (shape::keeps_weights) {
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (shape::has(lane, k)) load_weights(k, k);
        }
    }
    const auto ask = [&](int slot, index r) {
        const bool live = r < call.rows;
        x_rows.ask(slot, call.x.template row<Width>(live ? r : 0), lane, live);
        if constexpr (Sum) branch_rows.ask(slot, call.branch.template row<Width>(live ? r : 0), lane, live);
        if constexpr (stages > 1) ptx::commit_copies();
    };
    const index step = gridDim.x * index{shape::rows};
    index r = blockIdx.x * index{shape::rows} + threadIdx.x / shape::lanes;
    for (int s = 0; s < stages - 1; ++s) ask(s, r + s * step);
    int slot = 0, turn = 0;
    for (index base = blockIdx.x * index{shape::rows}; base < call.rows; base += step, r += step, slot = slot == stages - 1 ? 0 : slot + 1) {
        ask(slot == 0 ? stages - 1 : slot - 1, r + (stages - 1) * step);
        if constexpr (stages > 1) ptx::wait_copies<stages - 1>();
        const bool live = r < call.rows;
        float x[each][n];
#pragma unroll
        for (int k = 0; k < each; ++k) {
            const auto x_packet = x_rows.get(slot, lane, k);
#pragma unroll
            for (int j = 0; j < n; ++j) x[k][j] = x_packet[j];
            if constexpr (Sum) {
                const auto branch = branch_rows.get(slot, lane, k);
#pragma unroll
                for (int j = 0; j < n; ++j) x[k][j] = widen(narrow<R>(x[k][j] + branch[j]));
                if (live && shape::has(lane, k)) write(call.sum.template row<Width>(r) + shape::column(lane, k), x[k]);
            }
        }
        const row_moments moments = moments_of<shape, Centred>(x, lane, turn);
        const float mean = moments.mean, rstd = 1.0f / sqrtf(moments.squares / static_cast<float>(Width) + call.epsilon);
        if (!live) continue;
        if (lane == 0) {
            call.rstd[r] = rstd;
            if constexpr (Centred) call.mean[r] = mean;
        }
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            const int w = shape::keeps_weights ? k : 0;
            if constexpr (!shape::keeps_weights) load_weights(0, k);
#pragma unroll
            for (int j = 0; j < n; ++j) x[k][j] = Centred ? fmaf((x[k][j] - mean) * rstd, weight[w][j], bias[w][j]) : x[k][j] * rstd * weight[w][j];
            write(call.y.template row<Width>(r) + shape::column(lane, k), x[k]);
        }
    }
}

template <index Width, bool Centred, bool Sum, class X, class B, class R, class W, class Y>
void norm_forward(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<R> sum, const W* weight, const W* bias,
                  double epsilon, matrix_view<Y> y, float* mean, float* rstd, index heads = 1) {
    using x_element = std::remove_const_t<X>;
    using b_element = std::remove_const_t<B>;
    using shape = norm_shape<Width, Centred, Sum, x_element, b_element, R, W, Y>;
    constexpr index n = shape::n;
    expect_view(op, "x", x, x.rows, heads * Width, n * index{sizeof(X)});
    expect_view(op, "y", y, x.rows, heads * Width, n * index{sizeof(Y)});
    if constexpr (Sum) {
        expect_view(op, "the branch", branch, x.rows, Width, n * index{sizeof(B)});
        expect_view(op, "the sum", sum, x.rows, Width, n * index{sizeof(R)});
    }
    if (x.rows == 0) return;
    expect_pointer(op, "the weight", weight, packet_alignment<W, n>);
    expect_pointer(op, "rstd", rstd, sizeof(float));
    if constexpr (Centred) {
        expect_pointer(op, "the bias", bias, packet_alignment<W, n>);
        expect_pointer(op, "mean", mean, sizeof(float));
    }
    norm_call<x_element, b_element, R, W, Y> call;
    call.x = {x, heads};
    if constexpr (Sum) call.branch = {branch, 1}, call.sum = {sum, 1};
    call.y = {y, heads};
    call.weight = weight, call.bias = bias, call.mean = mean, call.rstd = rstd;
    call.rows = x.rows * heads;
    call.epsilon = static_cast<float>(epsilon);
    const index wanted = ceil_div(call.rows, shape::rows), most = norm_parts / 2 * shape::resident;
    launch_rows(op, stream, norm_kernel<Width, Centred, Sum, x_element, b_element, R, W, Y>, wanted < most ? wanted : most, shape::memory, call);
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
