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

/// How rows of a stream and of what joins it are cut. An item is one Philox block's channels where something is drawn, a packet
/// otherwise. About 128 bytes of a thread are under way; where something is drawn, four times one after the other.
template <index Width, bool Onto, bool Thin, class X, class B, class Y>
struct thin_shape : row_split<ceil_div(Width, Thin ? philox_group : common_packet<Width, X, B, Y>),
                              static_cast<int>(ceil_div(128, (Thin ? philox_group : common_packet<Width, X, B, Y>) *
                                                                 index{(Onto ? sizeof(X) : 0) + sizeof(B)})),
                              Thin ? 4 : 1> {
    static constexpr int n = common_packet<Width, X, B, Y>;                 // elements of a packet
    static constexpr int each = Thin ? static_cast<int>(philox_group) : n;  // elements of an item
    static constexpr int packets = (each + n - 1) / n;                      // packets of an item

    /// f(p, column) of an item's packets that are there.
    template <class At, class F>
    __device__ __forceinline__ static void for_packets(const At& at, F&& f) {
#pragma unroll
        for (int p = 0; p < packets; ++p) {
            const int c = at.place * each + p * n;
            if (at.live && (Width % each == 0 || c < Width)) f(p, c);
        }
    }
};

/// What decides about an item's channels, a byte of `drawn` each; where nothing is drawn, that all are kept.
struct item_draws {
    philox_block drawn{};
    std::uint32_t limit = 0;

    __device__ __forceinline__ bool keeps(int channel) const { return drawn.word[channel / 4] << (24 - 8 * (channel % 4)) >= limit; }
};

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
    /// Of an item that is there; its place counts Philox blocks.
    template <class At>
    __device__ __forceinline__ item_draws of(const At& at, const branch_drop& drop) const {
        item_draws of{.limit = limit[at.row]};
        if (drop.dropout.active() && of.limit != 0xffffffffu)
            of.drawn = philox4x32(token_counter(pieces.document[at.row], pieces.position[at.row], at.place), key);
        return of;
    }
};

/// y = x + thinned branch, or the thinned branch alone; row 0 is `first_token` of the pieces.
template <index Width, bool Onto, bool Thin, class X, class B, class Y>
__global__ void __launch_bounds__(thin_threads, 3) thin_kernel(matrix_view<const X> x, matrix_view<const B> branch, matrix_view<Y> y, device_pieces pieces,
                                                               index first_token, branch_drop drop, random_origin origin, float factor) {
    using shape = thin_shape<Width, Onto, Thin, X, B, Y>;
    constexpr int n = shape::n;
    __shared__ thin_draws<Thin ? shape::rows : 1> draws;
    const index first = blockIdx.x * index{shape::rows};
    const int rows = shape::rows_here(y.rows);
#pragma unroll 1
    for (int batch = 0; batch < shape::batches; ++batch) {
        held_packet<B, n> values[shape::ahead][shape::packets];
        held_packet<X, n> onto[Onto ? shape::ahead : 1][shape::packets];
#pragma unroll
        for (int k = 0; k < shape::ahead; ++k) {
            const auto at = shape::of(batch, k, rows);
            shape::for_packets(at, [&](int p, int c) {
                values[k][p].load(branch.row(first + at.row) + c);
                if constexpr (Onto) onto[k][p].load(x.row(first + at.row) + c);
            });
        }
        if constexpr (Thin) {
            if (batch == 0) draws.find(pieces, first_token + first, rows, drop, origin);  // while the first loads are under way
        }
#pragma unroll
        for (int k = 0; k < shape::ahead; ++k) {
            const auto at = shape::of(batch, k, rows);
            item_draws drawn;
            if constexpr (Thin) {
                if (at.live) drawn = draws.of(at, drop);
            }
            shape::for_packets(at, [&](int p, int c) {
                float result[n];
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    const bool keep = !Thin || drawn.keeps(p * n + j);
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
        using shape = thin_shape<Width, Onto, Thin, x_element, b_element, Y>;
        thin_kernel<Width, Onto, Thin, x_element, b_element, Y>
            <<<shape::ctas(y.rows), thin_threads, 0, stream>>>(x, branch, y, pieces.of, pieces.first, drop, origin, factor);
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
