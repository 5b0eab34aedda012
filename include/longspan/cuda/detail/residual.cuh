// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/residual.cuh.
#pragma once

#include <longspan/cuda/residual.cuh>

namespace longspan::cuda {

namespace detail {

inline constexpr int residual_threads = 256;
inline constexpr int residual_rows = 16;  // of a CTA: their pieces are found once

/// A thread takes one Philox block's 16 channels of a row at a time.
template <index Width, bool HasX, class X, class B, class Y>
__global__ void __launch_bounds__(residual_threads) residual_kernel(matrix_view<const X> x, matrix_view<const B> branch, matrix_view<Y> y,
                                                                    device_pieces pieces, branch_drop drop, random_origin origin, float factor) {
    constexpr int n = common_packet<Width, X, B, Y>;
    constexpr index groups = ceil_div(Width, philox_group);
    __shared__ index document[residual_rows], position[residual_rows];
    __shared__ bool kept[residual_rows];
    const philox_key key = origin.key();
    const index first = blockIdx.x * index{residual_rows};
    if (threadIdx.x < residual_rows && first + threadIdx.x < y.rows) {
        const index t = first + threadIdx.x;
        const piece& p = pieces.of(t);
        document[threadIdx.x] = p.document;
        position[threadIdx.x] = t - p.begin + p.position;
        kept[threadIdx.x] = !drop.depth.active() || keeps_branch(key, p.document, drop.depth);
    }
    __syncthreads();
    for (index i = threadIdx.x; i < residual_rows * groups; i += residual_threads) {
        const int r = static_cast<int>(i / groups);
        const index group = i % groups, t = first + r;
        if (t >= y.rows) break;
        philox_block drawn{};
        if (drop.dropout.active()) drawn = philox4x32(token_counter(document[r], position[r], group), key);
#pragma unroll
        for (int k = 0; k < philox_group / n; ++k) {
            const index c = group * philox_group + k * n;
            if (c >= Width) break;
            float sum[n] = {}, b[n];
            if constexpr (HasX) read(x.row(t) + c, sum);
            if (kept[r]) {
                read(branch.row(t) + c, b);
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    const bool keep = !drop.dropout.active() || byte_of(drawn, k * n + j) >= drop.dropout.threshold();
                    if (keep) sum[j] = HasX ? fmaf(b[j], factor, sum[j]) : __fmul_rn(b[j], factor);
                }
            }
            write(y.row(t) + c, sum);
        }
    }
}

template <index Width, bool HasX, class X, class B, class Y>
void thin_onto(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_table& pieces,
               const branch_drop& drop, const random_origin& origin) {
    using x_element = std::remove_const_t<X>;
    using b_element = std::remove_const_t<B>;
    constexpr int n = common_packet<Width, x_element, b_element, Y>;
    if constexpr (HasX) expect_view(op, "x", x, y.rows, Width, n * index{sizeof(X)});
    expect_view(op, "the branch", branch, y.rows, Width, n * index{sizeof(B)});
    expect_view(op, "the result", y, y.rows, Width, n * index{sizeof(Y)});
    if (y.rows == 0) return;
    expect_pointer(op, "pieces", pieces.pieces.data(), alignof(piece));
    expects(pieces.tokens == y.rows, [&] {
        return std::string(op) + ": expected pieces that cover the " + std::to_string(y.rows) + " rows, got pieces of " + std::to_string(pieces.tokens) + " tokens";
    });
    const float factor = drop.depth.scale() * drop.dropout.scale();
    const index ctas = ceil_div(y.rows, residual_rows);
    residual_kernel<Width, HasX, x_element, b_element, Y>
        <<<static_cast<unsigned>(ctas), residual_threads, 0, stream>>>(x, branch, y, pieces, drop, origin, factor);
    check_launch(op);
}

}  // namespace detail

template <index Width, class X, class B, class Y>
void residual(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_table& pieces, const branch_drop& drop,
              const random_origin& origin) {
    detail::thin_onto<Width, true>("residual", stream, x, branch, y, pieces, drop, origin);
}

template <index Width, class G, class D>
void residual_backward(stream_ref stream, matrix_view<G> dy, matrix_view<D> d_branch, const piece_table& pieces, const branch_drop& drop,
                       const random_origin& origin) {
    detail::thin_onto<Width, false>("residual_backward", stream, dy, dy, d_branch, pieces, drop, origin);
}

}  // namespace longspan::cuda
