// SPDX-License-Identifier: Apache-2.0
//
// Backward bodies of cuda/norm.cuh. With g = dy·w, x̂ = (x − mean)·rstd and means over a row:
//
//     dx = rstd · (g − mean(g) − x̂·mean(g·x̂))          (RMSNorm: without mean(g))
//     dw = Σ over rows of dy·x̂          db = Σ over rows of dy
//
// A CTA walks its part of the rows and keeps the columns' sums in registers; groups of rows of a CTA meet in shared memory.
#pragma once

#include <longspan/cuda/detail/norm_rows.cuh>

namespace longspan::cuda {

namespace detail {

template <class DY, class X, class W, class DX>
struct norm_backward_call {
    head_rows<const DY> dy;
    head_rows<const X> x;
    head_rows<DX> dx;
    const W* weight = nullptr;
    const float* mean = nullptr;  // with Centred
    const float* rstd = nullptr;
    index rows = 0;
    float* parts = nullptr;       // [norm_parts, 1 or 2, Width]: of dw, and of db
};

template <index Width, class DY, class X, class W, class DX>
struct norm_backward_shape : row_shape<Width, 3, DY, X, W, DX> {
    using base = row_shape<Width, 3, DY, X, W, DX>;
    /// Rows too wide for registers are read when they are due, and their weights each time.
    static constexpr bool ahead = base::each <= 3;
    static constexpr int resident = base::each <= 2 ? 2 : 1;
    static constexpr index ctas = norm_parts / 2 * resident;
};

template <index Width, bool Centred, bool Add, class DY, class X, class W, class DX>
__global__ void __launch_bounds__(norm_threads, norm_backward_shape<Width, DY, X, W, DX>::resident)
    norm_backward_kernel(const __grid_constant__ norm_backward_call<DY, X, W, DX> call) {
    using shape = norm_backward_shape<Width, DY, X, W, DX>;
    constexpr int n = shape::n, each = shape::each;
    constexpr int sums = Centred ? 2 : 1;
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes, group = static_cast<int>(threadIdx.x) / shape::lanes;
    float w[shape::ahead ? each : 1][n] = {}, total[sums][each][n] = {};
    if constexpr (shape::ahead) {
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (shape::has(lane, k)) read(call.weight + shape::column(lane, k), w[k]);
        }
    }
    struct held {
        held_row<shape, DY> dy;
        held_row<shape, X> x;
        held_row<shape, DX> before;
        float rstd, mean;
    };
    const auto load = [&](index r, held& to) {
        to.rstd = 0, to.mean = 0;
        if (r >= call.rows) return;
        to.dy.load(call.dy.template row<Width>(r), lane);
        to.x.load(call.x.template row<Width>(r), lane);
        if constexpr (Add) to.before.load(call.dx.template row<Width>(r), lane);
        to.rstd = call.rstd[r];
        if constexpr (Centred) to.mean = call.mean[r];
    };
    const index step = gridDim.x * index{shape::rows};
    held next{};
    if constexpr (shape::ahead) load(blockIdx.x * index{shape::rows} + group, next);
    for (index base = blockIdx.x * index{shape::rows}; base < call.rows; base += step) {
        const index r = base + group;
        held now = next;
        if constexpr (shape::ahead) load(r + step, next);
        else load(r, now);
        float g[each][n], x[each][n];
        float2 means = make_float2(0, 0);
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if constexpr (!shape::ahead) {
                if (shape::has(lane, k)) read(call.weight + shape::column(lane, k), w[0]);
            }
#pragma unroll
            for (int j = 0; j < n; ++j) {
                const float dy = r < call.rows ? now.dy.of(lane, k, j) : 0.0f;
                x[k][j] = r < call.rows ? (now.x.of(lane, k, j) - now.mean) * now.rstd : 0.0f;
                total[0][k][j] = fmaf(dy, x[k][j], total[0][k][j]);
                if constexpr (Centred) total[1][k][j] += dy;
                g[k][j] = dy * w[shape::ahead ? k : 0][j];
                means.x = fmaf(g[k][j], x[k][j], means.x);
                if constexpr (Centred) means.y += g[k][j];
            }
        }
        means = sum_over_lanes<shape::lanes>(means);
        means.x /= static_cast<float>(Width);
        means.y /= static_cast<float>(Width);
        if (r >= call.rows) continue;
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            float result[n];
#pragma unroll
            for (int j = 0; j < n; ++j) {
                const float inner = fmaf(-x[k][j], means.x, Centred ? g[k][j] - means.y : g[k][j]);
                result[j] = Add ? fmaf(now.rstd, inner, now.before.of(lane, k, j)) : now.rstd * inner;
            }
            write(call.dx.template row<Width>(r) + shape::column(lane, k), result);
        }
    }
    // The groups' sums, one group after the other.
    __shared__ float row[Width];
    for (int s = 0; s < sums; ++s) {
        for (int g = 0; g < shape::rows; ++g) {
            __syncthreads();
            if (g != group) continue;
#pragma unroll
            for (int k = 0; k < each; ++k) {
                if (!shape::has(lane, k)) continue;
                const int c = shape::column(lane, k);
#pragma unroll
                for (int j = 0; j < n; ++j) row[c + j] = g == 0 ? total[s][k][j] : row[c + j] + total[s][k][j];
            }
        }
        __syncthreads();
        for (int c = static_cast<int>(threadIdx.x); c < Width; c += norm_threads) call.parts[(blockIdx.x * index{sums} + s) * Width + c] = row[c];
    }
}

/// dw[c] += Σ over the parts, db likewise. A warp takes 32 columns' parts in 8 stretches, then the stretches in order.
template <index Width, int Sums>
__global__ void __launch_bounds__(norm_threads) norm_parts_kernel(const float* parts, index count, float* dw, float* db) {
    constexpr int stretches = norm_threads / 32;
    __shared__ float sums[stretches][32];
    const int lane = static_cast<int>(threadIdx.x) % 32, stretch = static_cast<int>(threadIdx.x) / 32;
    const index column = blockIdx.x * index{32} + lane;  // of dw, then of db
    float total = 0;
    if (column < Sums * Width) {
        const index each = ceil_div(count, stretches);
        const index end = (stretch + 1) * each < count ? (stretch + 1) * each : count;
#pragma unroll 4
        for (index p = stretch * each; p < end; ++p) total += parts[p * Sums * Width + column];
    }
    sums[stretch][lane] = total;
    __syncthreads();
    if (stretch != 0 || column >= Sums * Width) return;
    for (int s = 1; s < stretches; ++s) total += sums[s][lane];
    float* const to = column < Width ? dw + column : db + (column - Width);
    *to += total;
}

template <index Width, bool Centred, accumulate Add, class DY, class X, class W, class DX>
void norm_backward(const char* op, stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const float* mean, const float* rstd,
                   matrix_view<DX> dx, float* dweight, float* dbias, std::byte* workspace, index heads = 1) {
    using dy_element = std::remove_const_t<DY>;
    using x_element = std::remove_const_t<X>;
    using shape = norm_backward_shape<Width, dy_element, x_element, W, DX>;
    constexpr index n = shape::n;
    static_assert(Width * sizeof(float) <= 48 * 1024, "norm backward: rows of at most 12,288 elements");
    expect_view(op, "dy", dy, x.rows, heads * Width, n * index{sizeof(DY)});
    expect_view(op, "x", x, x.rows, heads * Width, n * index{sizeof(X)});
    expect_view(op, "dx", dx, x.rows, heads * Width, n * index{sizeof(DX)});
    if (x.rows == 0) return;
    expect_pointer(op, "the weight", weight, n * index{sizeof(W)});
    expect_pointer(op, "rstd", rstd, sizeof(float));
    expect_pointer(op, "dweight", dweight, sizeof(float));
    expect_pointer(op, "workspace", workspace, 16);
    if constexpr (Centred) {
        expect_pointer(op, "mean", mean, sizeof(float));
        expect_pointer(op, "dbias", dbias, sizeof(float));
    }
    constexpr int sums = Centred ? 2 : 1;
    norm_backward_call<dy_element, x_element, W, DX> call;
    call.dy = {dy, heads}, call.x = {x, heads}, call.dx = {dx, heads};
    call.weight = weight, call.mean = mean, call.rstd = rstd;
    call.rows = x.rows * heads;
    call.parts = reinterpret_cast<float*>(workspace);
    const index wanted = ceil_div(call.rows, shape::rows), ctas = wanted < shape::ctas ? wanted : shape::ctas;
    norm_backward_kernel<Width, Centred, Add == accumulate::yes, dy_element, x_element, W, DX>
        <<<static_cast<unsigned>(ctas), norm_threads, 0, stream>>>(call);
    norm_parts_kernel<Width, sums><<<static_cast<unsigned>(ceil_div(sums * Width, 32)), norm_threads, 0, stream>>>(call.parts, ctas, dweight, dbias);
    check_launch(op);
}

}  // namespace detail

template <index Width, accumulate Add, class DY, class X, class W, class S, class DX, class DW>
void rms_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, DW* dweight,
                       std::byte* workspace) {
    detail::norm_backward<Width, false, Add>("rms_norm_backward", stream, dy, x, weight, nullptr, rstd, dx, dweight, nullptr, workspace);
}
template <index Width, accumulate Add, class DY, class X, class W, class S, class DX, class DW>
void layer_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         DW* dweight, DW* dbias, std::byte* workspace) {
    detail::norm_backward<Width, true, Add>("layer_norm_backward", stream, dy, x, weight, mean, rstd, dx, dweight, dbias, workspace);
}
template <index Head, class DY, class X, class W, class S, class DX, class DW>
void head_norm_backward(stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, DW* dweight,
                        std::byte* workspace) {
    detail::norm_backward<Head, false, accumulate::no>("head_norm_backward", stream, dy, x, weight, nullptr, rstd, dx, dweight, nullptr, workspace,
                                                       x.columns / Head);
}

}  // namespace longspan::cuda
