// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/residual.cuh, and of cuda/dropout.cuh.
#pragma once

#include <longspan/cuda/detail/held_packet.cuh>
#include <longspan/cuda/detail/row_pieces.cuh>
#include <longspan/cuda/detail/row_split.cuh>
#include <longspan/cuda/residual.cuh>

namespace longspan::cuda {

namespace detail {

inline constexpr int thin_threads = 256;

/// Elements of an item: one Philox block's where something is drawn, a packet's otherwise.
template <index Width, bool Thin, class... Ts>
inline constexpr int thin_item = Thin ? static_cast<int>(philox_group) : common_packet<Width, Ts...>;

/// About 128 bytes of a thread are under way; where something is drawn, four times one after the other.
template <index Width, bool Onto, bool Thin, class X, class B, class Y>
using thin_split = row_split<ceil_div(Width, thin_item<Width, Thin, X, B, Y>),
                             static_cast<int>(ceil_div(128, thin_item<Width, Thin, X, B, Y> * static_cast<index>((Onto ? sizeof(X) : 0) + sizeof(B)))),
                             Thin ? 4 : 1>;

/// What decides about a CTA's rows.
template <int Rows>
struct thin_draws {
    row_pieces<Rows> pieces;
    philox_key key;
    std::uint32_t limit[Rows];  // an element is kept whose byte, on top of a word, makes that word no less; all ones: no element is

    __device__ __forceinline__ void find(const device_pieces& table, index first, int rows, const branch_drop& drop, const random_origin& origin) {
        if (threadIdx.x < 32) pieces.find(table, first, rows);
        if (threadIdx.x == 32) key = origin.key();
        __syncthreads();
        for (int r = static_cast<int>(threadIdx.x); r < rows; r += thin_threads) {
            const bool kept = !drop.depth.active() || keeps_branch(key, pieces.document[r], drop.depth);
            limit[r] = kept ? drop.dropout.threshold() << 24 : 0xffffffffu;
        }
        __syncthreads();
    }
};

/// y = x + thinned branch, or the thinned branch alone; row 0 is `first_token` of the pieces.
template <index Width, bool Onto, bool Thin, class X, class B, class Y>
__global__ void __launch_bounds__(thin_threads, 3) thin_kernel(matrix_view<const X> x, matrix_view<const B> branch, matrix_view<Y> y, device_pieces pieces,
                                                               index first_token, branch_drop drop, random_origin origin, float factor) {
    constexpr int n = common_packet<Width, X, B, Y>;
    constexpr int each = thin_item<Width, Thin, X, B, Y>, packets = (each + n - 1) / n;
    using split = thin_split<Width, Onto, Thin, X, B, Y>;
    __shared__ thin_draws<Thin ? split::rows : 1> draws;
    const index first = blockIdx.x * index{split::rows};
    const int rows = split::rows_here(y.rows);
    const auto for_packets = [&](const auto& at, auto&& f) {
#pragma unroll
        for (int p = 0; p < packets; ++p) {
            const int c = at.place * each + p * n;
            if (at.live && (Width % each == 0 || c < Width)) f(p, c);
        }
    };
#pragma unroll 1
    for (int batch = 0; batch < split::batches; ++batch) {
        held_packet<B, n> values[split::ahead][packets];
        held_packet<X, n> onto[Onto ? split::ahead : 1][packets];
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            for_packets(at, [&](int p, int c) {
                values[k][p].load(branch.row(first + at.row) + c);
                if constexpr (Onto) onto[k][p].load(x.row(first + at.row) + c);
            });
        }
        if constexpr (Thin) {
            if (batch == 0) draws.find(pieces, first_token + first, rows, drop, origin);  // while the first loads are under way
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            philox_block drawn{};
            std::uint32_t limit = 0;
            if constexpr (Thin) {
                if (at.live) {
                    limit = draws.limit[at.row];
                    if (drop.dropout.active() && limit != 0xffffffffu)
                        drawn = philox4x32(token_counter(draws.pieces.document[at.row], draws.pieces.position[at.row], at.place), draws.key);
                }
            }
            for_packets(at, [&](int p, int c) {
                float result[n];
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    const int element = p * n + j;
                    const bool keep = !Thin || drawn.word[element / 4] << (24 - 8 * (element % 4)) >= limit;
                    const float otherwise = Onto ? onto[Onto ? k : 0][p][j] : 0.0f;
                    const float moved = Onto ? fmaf(values[k][p][j], factor, otherwise) : __fmul_rn(values[k][p][j], factor);
                    result[j] = keep ? moved : otherwise;
                }
                write(y.row(first + at.row) + c, result);
            });
        }
    }
}

template <index Width, bool Onto, class X, class B, class Y>
void thin_rows(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces,
               const branch_drop& drop, const random_origin& origin) {
    using x_element = std::remove_const_t<X>;
    using b_element = std::remove_const_t<B>;
    constexpr int n = common_packet<Width, x_element, b_element, Y>;
    if constexpr (Onto) expect_view(op, "x", x, y.rows, Width, packet_alignment<x_element, n>);
    expect_view(op, "what is thinned", branch, y.rows, Width, packet_alignment<b_element, n>);
    expect_view(op, "the result", y, y.rows, Width, packet_alignment<Y, n>);
    expect_table(op, pieces, y.rows);
    if (y.rows == 0) return;
    const float factor = drop.depth.scale() * drop.dropout.scale();
    const auto launch = [&](auto thin) {
        constexpr bool Thin = decltype(thin)::value;
        using split = thin_split<Width, Onto, Thin, x_element, b_element, Y>;
        thin_kernel<Width, Onto, Thin, x_element, b_element, Y>
            <<<split::ctas(y.rows), thin_threads, 0, stream>>>(x, branch, y, pieces.of, pieces.first, drop, origin, factor);
    };
    if (drop.dropout.active() || drop.depth.active()) launch(std::true_type{});
    else launch(std::false_type{});
    check_launch(op);
}

}  // namespace detail

template <index Width, class X, class B, class Y>
void residual(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
              const random_origin& origin) {
    detail::thin_rows<Width, true>("residual", stream, x, branch, y, pieces, drop, origin);
}

template <index Width, class G, class D>
void residual_backward(stream_ref stream, matrix_view<G> dy, matrix_view<D> d_branch, const piece_rows& pieces, const branch_drop& drop,
                       const random_origin& origin) {
    detail::thin_rows<Width, false>("residual_backward", stream, dy, dy, d_branch, pieces, drop, origin);
}

}  // namespace longspan::cuda
