// SPDX-License-Identifier: Apache-2.0
//
// Backward bodies of cuda/norm.cuh. With g = dy·w, x̂ = (x − mean)·rstd and means over a row:
//
//     dx = rstd · (g − mean(g) − x̂·mean(g·x̂))          (RMSNorm: without mean(g))
//     dw = Σ over rows of dy·x̂          db = Σ over rows of dy
//
// A CTA walks its part of the rows and keeps the columns' sums in registers; dy and x are read once from memory and twice from
// where they wait. Groups of rows of a CTA meet in shared memory.
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

template <index Width, bool Add, class DY, class X, class W, class DX>
struct norm_backward_shape : row_shape<Width, 3, DY, X, DX> {
    using base = row_shape<Width, 3, DY, X, DX>;
    using parameters = held_parameters<W, base::n>;
    static constexpr int stages =
        stages_within(96 << 10, bytes{base::each} * norm_threads * base::n * (sizeof(DY) + sizeof(X) + (Add ? sizeof(DX) : 0)));
    static constexpr bool keeps_weights = base::each * parameters::size <= 96;  // bytes of registers
    static constexpr int resident = base::each <= 3 ? 2 : 1;
    static constexpr index ctas = norm_parts / 2 * resident;
    using dy_source = row_source<base, stages, DY>;
    using x_source = row_source<base, stages, X>;
    using before_source = row_source<base, stages, DX>;
    static constexpr int rows_memory = dy_source::size + x_source::size + (Add ? before_source::size : 0);
    static constexpr int memory = rows_memory > int{Width * sizeof(float)} ? rows_memory : int{Width * sizeof(float)};
};

/// row[c] = the sum of the groups' totals, in order of the groups. Every thread of the CTA takes part.
template <class Shape, int Each, int N>
__device__ __forceinline__ void add_groups(const float (&total)[Each][N], float* row, int lane, int group) {
    for (int g = 0; g < Shape::rows; ++g) {
        __syncthreads();
        if (g != group) continue;
#pragma unroll
        for (int k = 0; k < Each; ++k) {
            if (!Shape::has(lane, k)) continue;
            const int c = Shape::column(lane, k);
#pragma unroll
            for (int j = 0; j < N; ++j) row[c + j] = g == 0 ? total[k][j] : row[c + j] + total[k][j];
        }
    }
    __syncthreads();
}

template <index Width, bool Centred, bool Add, class DY, class X, class W, class DX>
__global__ void __launch_bounds__(norm_threads, norm_backward_shape<Width, Add, DY, X, W, DX>::resident)
    norm_backward_kernel(const __grid_constant__ norm_backward_call<DY, X, W, DX> call) {
    using shape = norm_backward_shape<Width, Add, DY, X, W, DX>;
    constexpr int n = shape::n, each = shape::each, stages = shape::stages;
    constexpr int sums = Centred ? 2 : 1;
    extern __shared__ uint4 rows_coming[];
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes, group = static_cast<int>(threadIdx.x) / shape::lanes;
    auto* const memory = reinterpret_cast<std::byte*>(rows_coming);
    typename shape::dy_source dy_rows(memory);
    typename shape::x_source x_rows(memory + shape::dy_source::size);
    typename shape::before_source before_rows(memory + shape::dy_source::size + shape::x_source::size);
    typename shape::parameters weight[shape::keeps_weights ? each : 1];
    float total[sums][each][n] = {};
    if constexpr (shape::keeps_weights) {
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (shape::has(lane, k)) weight[k].load(call.weight + shape::column(lane, k));
        }
    }
    const auto ask = [&](int slot, index r) {
        const bool live = r < call.rows;
        dy_rows.ask(slot, call.dy.template row<Width>(live ? r : 0), lane, live);
        x_rows.ask(slot, call.x.template row<Width>(live ? r : 0), lane, live);
        if constexpr (Add) before_rows.ask(slot, call.dx.template row<Width>(live ? r : 0), lane, live);
        if constexpr (stages > 1) ptx::commit_copies();
    };
    const index step = gridDim.x * index{shape::rows};
    index r = blockIdx.x * index{shape::rows} + group;
    for (int s = 0; s < stages - 1; ++s) ask(s, r + s * step);
    int slot = 0, turn = 0;
    for (index base = blockIdx.x * index{shape::rows}; base < call.rows; base += step, r += step, slot = slot == stages - 1 ? 0 : slot + 1) {
        const bool live = r < call.rows;
        const float rstd = live ? call.rstd[r] : 0.0f, shift = Centred && live ? -rstd * call.mean[r] : 0.0f;
        ask(slot == 0 ? stages - 1 : slot - 1, r + (stages - 1) * step);
        if constexpr (stages > 1) ptx::wait_copies<stages - 1>();
        float2 means = make_float2(0, 0);
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            const int w = shape::keeps_weights ? k : 0;
            if constexpr (!shape::keeps_weights) weight[0].load(call.weight + shape::column(lane, k));
            const auto dy = dy_rows.get(slot, lane, k);
            const auto x = x_rows.get(slot, lane, k);
#pragma unroll
            for (int j = 0; j < n; ++j) {
                const float hat = fmaf(x[j], rstd, shift), g = dy[j] * weight[w][j];
                total[0][k][j] = fmaf(dy[j], hat, total[0][k][j]);
                if constexpr (Centred) total[1][k][j] += dy[j];
                means.x = fmaf(g, hat, means.x);
                if constexpr (Centred) means.y += g;
            }
        }
        means = sum_over_lanes<shape::lanes>(means, turn);
        means.x /= static_cast<float>(Width);
        means.y /= static_cast<float>(Width);
        if (!live) continue;
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            const int w = shape::keeps_weights ? k : 0;
            if constexpr (!shape::keeps_weights) weight[0].load(call.weight + shape::column(lane, k));
            const auto dy = dy_rows.get(slot, lane, k);
            const auto x = x_rows.get(slot, lane, k);
            const auto before = before_rows.get(slot, lane, k);
            float result[n];
#pragma unroll
            for (int j = 0; j < n; ++j) {
                const float g = Centred ? fmaf(dy[j], weight[w][j], -means.y) : dy[j] * weight[w][j];
                const float inner = fmaf(-fmaf(x[j], rstd, shift), means.x, g);
                result[j] = Add ? fmaf(rstd, inner, before[j]) : rstd * inner;
            }
            write(call.dx.template row<Width>(r) + shape::column(lane, k), result);
        }
    }
    // The groups' sums, one group after the other, where rows have been waited for.
    if constexpr (stages > 1) ptx::wait_copies<0>();
    auto* const row = reinterpret_cast<float*>(memory);
    for (int s = 0; s < sums; ++s) {
        add_groups<shape>(total[s], row, lane, group);
        for (int c = static_cast<int>(threadIdx.x); c < Width; c += norm_threads) call.parts[(blockIdx.x * index{sums} + s) * Width + c] = row[c];
    }
}

/// *to += Σ over `count` parts, `apart` floats from one to the next; a lane adds for a column of its own, whose `to` is null where
/// there is none. A warp takes a stretch of its columns' parts, then the first warp adds the 8 stretches in order.
__device__ __forceinline__ void add_parts(const float* parts, index apart, index count, float* to) {
    constexpr int stretches = norm_threads / 32;
    __shared__ float sums[stretches][32];
    const int lane = static_cast<int>(threadIdx.x) % 32, stretch = static_cast<int>(threadIdx.x) / 32;
    float total = 0;
    const index each = ceil_div(count, stretches);
    const index end = (stretch + 1) * each < count ? (stretch + 1) * each : count;
#pragma unroll 4
    for (index p = stretch * each; p < end; ++p) total += parts[p * apart];
    sums[stretch][lane] = total;
    __syncthreads();
    if (stretch != 0 || to == nullptr) return;
    for (int s = 1; s < stretches; ++s) total += sums[s][lane];
    *to += total;
}

/// dw[c] += Σ over the parts, db likewise.
template <index Width, int Sums>
__global__ void __launch_bounds__(norm_threads) norm_parts_kernel(const float* parts, index count, float* dw, float* db) {
    const index column = blockIdx.x * index{32} + threadIdx.x % 32;  // of dw, then of db
    const bool there = column < Sums * Width;
    add_parts(parts + column, Sums * Width, there ? count : 0, there ? (column < Width ? dw + column : db + (column - Width)) : nullptr);
}

template <index Width, bool Centred, accumulate Add, class DY, class X, class W, class DX>
void norm_backward(const char* op, stream_ref stream, matrix_view<DY> dy, matrix_view<X> x, const W* weight, const float* mean, const float* rstd,
                   matrix_view<DX> dx, float* dweight, float* dbias, std::byte* workspace, index heads = 1) {
    using dy_element = std::remove_const_t<DY>;
    using x_element = std::remove_const_t<X>;
    using shape = norm_backward_shape<Width, Add == accumulate::yes, dy_element, x_element, W, DX>;
    constexpr index n = shape::n;
    static_assert(Width * sizeof(float) <= 48 * 1024, "norm backward: rows of at most 12,288 elements");
    expect_view(op, "dy", dy, x.rows, heads * Width, n * index{sizeof(DY)});
    expect_view(op, "x", x, x.rows, heads * Width, n * index{sizeof(X)});
    expect_view(op, "dx", dx, x.rows, heads * Width, n * index{sizeof(DX)});
    if (x.rows == 0) return;
    expect_pointer(op, "the weight", weight, packet_alignment<W, n>);
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
    launch_rows(op, stream, norm_backward_kernel<Width, Centred, Add == accumulate::yes, dy_element, x_element, W, DX>, ctas, shape::memory, call);
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
