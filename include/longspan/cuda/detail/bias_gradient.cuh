// SPDX-License-Identifier: Apache-2.0
//
// Body of linear_bias_gradient (cuda/gemm.cuh): the sum of a matrix' columns, in two kernels. Reads dy once; bound by that. And the two
// ways to linear_parameter_gradients.
#pragma once

#include <longspan/cuda/gemm.cuh>

namespace longspan::cuda {

namespace detail {

inline constexpr int bias_warps = 8;       // rows in flight in a CTA; their sums meet in shared memory
inline constexpr int bias_rows_ahead = 8;  // independent 16-byte loads of a thread

/// Elements which a thread reads at once.
template <class T, int Elements>
struct alignas(Elements * sizeof(T)) row_piece {
    T at[Elements];
};

/// partial[part, column] = the sum of one part's rows. CTA: (columns / (32 · Elements), part).
template <class T, int Elements>
__global__ void __launch_bounds__(32 * bias_warps) column_part_sums(const T* dy, index rows, index columns, index stride, float* partial) {
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const index column = (static_cast<index>(blockIdx.x) * 32 + lane) * Elements;
    const index begin = rows * static_cast<index>(blockIdx.y) / bias_gradient_parts;
    const index end = rows * (static_cast<index>(blockIdx.y) + 1) / bias_gradient_parts;
    float sum[Elements] = {};
    if (column < columns) {
        for (index r = begin + warp; r < end; r += bias_warps * bias_rows_ahead) {
            row_piece<T, Elements> pieces[bias_rows_ahead];
#pragma unroll
            for (int a = 0; a < bias_rows_ahead; ++a)
                if (r + a * bias_warps < end)
                    pieces[a] = *reinterpret_cast<const row_piece<T, Elements>*>(dy + (r + a * bias_warps) * stride + column);
#pragma unroll
            for (int a = 0; a < bias_rows_ahead; ++a)
                if (r + a * bias_warps < end)
#pragma unroll
                    for (int e = 0; e < Elements; ++e) sum[e] += to_compute(pieces[a].at[e]);
        }
    }
    __shared__ float sums[bias_warps][Elements][32];
#pragma unroll
    for (int e = 0; e < Elements; ++e) sums[warp][e][lane] = sum[e];
    __syncthreads();
    for (int i = static_cast<int>(threadIdx.x); i < 32 * Elements; i += 32 * bias_warps) {
        const index at = static_cast<index>(blockIdx.x) * 32 * Elements + i;
        float total = 0;
        for (int w = 0; w < bias_warps; ++w) total += sums[w][i % Elements][i / Elements];
        if (at < columns) partial[static_cast<index>(blockIdx.y) * columns + at] = total;
    }
}

/// db (= | +=) the sum of `parts` rows of partial sums.
template <bool Add, index Parts = bias_gradient_parts>
__global__ void column_sums(const float* partial, index columns, float* db) {
    const index column = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (column >= columns) return;
    float total = 0;
#pragma unroll 16
    for (index part = 0; part < Parts; ++part) total += partial[part * columns + column];
    db[column] = Add ? db[column] + total : total;
}

}  // namespace detail

template <product_storage DY>
void linear_bias_gradient(stream_ref stream, matrix_view<DY> dy, float* db, std::byte* workspace, accumulate add) {
    constexpr const char* op = "linear_bias_gradient";
    using T = std::remove_const_t<DY>;
    constexpr int whole = 16 / sizeof(T);
    expects(dy.rows >= 0 && dy.columns > 0, [&] {
        return std::string(op) + ": expected a width of at least 1, got dy of [" + std::to_string(dy.rows) + ", " + std::to_string(dy.columns) + "]";
    });
    expect_view(op, "dy", dy, dy.rows, dy.columns);
    expect_pointer(op, "db", db, sizeof(float));
    expect_pointer(op, "a workspace", workspace, workspace_alignment);
    auto* const partial = reinterpret_cast<float*>(workspace);
    const bool pieces = dy.columns % whole == 0 && dy.stride % whole == 0 && reinterpret_cast<std::uintptr_t>(dy.data) % 16 == 0;
    const index columns_per_cta = 32 * (pieces ? whole : 1);
    const dim3 grid(static_cast<unsigned>(ceil_div(dy.columns, columns_per_cta)), static_cast<unsigned>(bias_gradient_parts));
    if (pieces) detail::column_part_sums<T, whole><<<grid, 32 * detail::bias_warps, 0, stream>>>(dy.data, dy.rows, dy.columns, dy.stride, partial);
    else detail::column_part_sums<T, 1><<<grid, 32 * detail::bias_warps, 0, stream>>>(dy.data, dy.rows, dy.columns, dy.stride, partial);
    check_launch(op);
    const auto blocks = static_cast<unsigned>(ceil_div(dy.columns, 128));
    if (add == accumulate::yes) detail::column_sums<true><<<blocks, 128, 0, stream>>>(partial, dy.columns, db);
    else detail::column_sums<false><<<blocks, 128, 0, stream>>>(partial, dy.columns, db);
    check_launch(op);
}

template <class Operand, bool InEpilogue, product_storage DY, product_storage X, product_storage DW>
    requires product_operand<Operand, DY>
void linear_parameter_gradients(stream_ref stream, cublas& blas, matrix_view<DY> dy, matrix_view<X> x, matrix_view<DW> dw, float* db,
                                std::byte* workspace, accumulate add) {
    constexpr const char* op = "linear_parameter_gradients";
    if (!InEpilogue || x.rows == 0) {
        linear_weight_gradient<Operand>(stream, blas, dy, x, dw, workspace, add);
        linear_bias_gradient(stream, dy, db, workspace, add);
        return;
    }
    detail::expect_weight_gradient(op, dy, x, dw);
    expect_pointer(op, "db", db, sizeof(float));
    expect_pointer(op, "a workspace", workspace, workspace_alignment);
    // The library writes the sums, and does not add them: they wait at the end of the workspace, of which it is given so much less.
    const bytes sums = round_up(dw.rows * bytes{sizeof(float)}, workspace_alignment);
    detail::product p = detail::weight_gradient_product<Operand, DY>(x, dw, add);
    p.epilogue = CUBLASLT_EPILOGUE_BGRADB;  // of its second operand, which is dy
    p.type_bias = CUDA_R_32F;
    p.workspace -= sums;
    auto* const made = reinterpret_cast<float*>(workspace + p.workspace);
    detail::multiply(stream, blas, op, p, x, dy, detail::constants(dw), dw, {.bias = add == accumulate::yes ? made : db}, workspace);
    if (add == accumulate::no) return;
    detail::column_sums<true, 1><<<static_cast<unsigned>(ceil_div(dw.rows, 128)), 128, 0, stream>>>(made, dw.rows, db);
    check_launch(op);
}

}  // namespace longspan::cuda
