// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions: the first half of each head is turned against the second by angles p·base^(−2j/head), p the token's position in
// its document. The twin of host/rotary.hpp, half-split pairing. Angles are computed in double and are exact at any position.
//
//     y₁ = x₁·cos − x₂·sin,  y₂ = x₂·cos + x₁·sin          backward: the other way round
//
// Traffic: x twice (once read, once written), the table once. Reference: Su et al., arXiv:2104.09864.
#pragma once

#include <cmath>

#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/detail/held_packet.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/pieces.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

enum class direction : bool { forward, backward };

namespace detail {

inline constexpr int rotary_threads = 256;

template <index Head>
__global__ void __launch_bounds__(rotary_threads) rotary_table_kernel(device_pieces pieces, double log2_base, matrix_view<float> cosines, matrix_view<float> sines) {
    constexpr index half = Head / 2;
    const index i = blockIdx.x * index{rotary_threads} + threadIdx.x, t = i / half, j = i % half;
    if (t >= cosines.rows) return;
    const double angle = static_cast<double>(pieces.position(t)) * exp2(-2.0 * static_cast<double>(j) / static_cast<double>(Head) * log2_base);
    double sine = 0, cosine = 0;
    sincos(angle, &sine, &cosine);
    cosines(t, j) = static_cast<float>(cosine);
    sines(t, j) = static_cast<float>(sine);
}

/// A thread turns the same pairs of `each` heads of a row: the angles are read once for them.
template <index Head, class X>
struct rotary_split {
    static constexpr index half = Head / 2;
    static constexpr int n = packet_elements<X, half>, packets = static_cast<int>(half / n), each = 4;

    int row_items, rows;  ///< items of a row; rows of a CTA, at least as many items as it has threads, where a row has fewer

    explicit rotary_split(int heads) : row_items((heads + each - 1) / each * packets), rows(row_items < rotary_threads ? rotary_threads / row_items : 1) {}
    [[nodiscard]] unsigned threads() const {
        const int items = rows * row_items;
        return static_cast<unsigned>(items < rotary_threads ? (items + 31) / 32 * 32 : rotary_threads);
    }
};

template <index Head, bool Forward, class X>
__global__ void __launch_bounds__(rotary_threads) rotary_kernel(matrix_view<const X> x, matrix_view<const float> cosines, matrix_view<const float> sines,
                                                                matrix_view<X> y, int heads, rotary_split<Head, X> split) {
    using shape = rotary_split<Head, X>;
    constexpr int n = shape::n, each = shape::each;
    const index first_row = blockIdx.x * index{static_cast<unsigned>(split.rows)};
    for (int item = static_cast<int>(threadIdx.x); item < split.rows * split.row_items; item += static_cast<int>(blockDim.x)) {
        const int row = item / split.row_items, at = item - row * split.row_items;
        const int c = at % shape::packets * n, first = at / shape::packets * each, live = heads - first;
        const index t = first_row + row;
        if (t >= x.rows) return;
        const X* const from = x.row(t) + first * Head + c;
        held_packet<X, n> low[each], high[each];
#pragma unroll
        for (int h = 0; h < each; ++h) {
            if (h < live) low[h].load(from + h * Head), high[h].load(from + h * Head + shape::half);
        }
        float cosine[n], sine[n];
        read(cosines.row(t) + c, cosine);
        read(sines.row(t) + c, sine);
        X* const to = y.row(t) + first * Head + c;
#pragma unroll
        for (int h = 0; h < each; ++h) {
            if (h >= live) break;
            float a[n], b[n];
#pragma unroll
            for (int j = 0; j < n; ++j) {
                const float s = Forward ? sine[j] : -sine[j];
                a[j] = fmaf(low[h][j], cosine[j], -(high[h][j] * s));
                b[j] = fmaf(high[h][j], cosine[j], low[h][j] * s);
            }
            write(to + h * Head, a);
            write(to + h * Head + shape::half, b);
        }
    }
}

}  // namespace detail

/// cosines[t, Head/2], sines[t, Head/2] of each token's angles. `pieces` lie in device memory and cover the rows.
template <index Head, class S>
void rotary_table(stream_ref stream, const piece_table& pieces, double base, matrix_view<S> cosines, matrix_view<S> sines) {
    static_assert(Head % 2 == 0, "rotary_table: the head width is even");
    static_assert(std::is_same_v<S, float>, "rotary_table: the device's tables are floats");
    expect_view("rotary_table", "cosines", cosines, pieces.tokens, Head / 2);
    expect_view("rotary_table", "sines", sines, pieces.tokens, Head / 2);
    expects(base > 0, [&] { return "rotary_table: expected a base above 0, got " + std::to_string(base); });
    if (pieces.tokens == 0) return;
    expect_pointer("rotary_table", "pieces", pieces.pieces.data(), alignof(piece));
    const auto ctas = static_cast<unsigned>(ceil_div(pieces.tokens * (Head / 2), detail::rotary_threads));
    detail::rotary_table_kernel<Head><<<ctas, detail::rotary_threads, 0, stream>>>(pieces, std::log2(base), cosines, sines);
    check_launch("rotary_table");
}

/// y = x with every head of its rows turned; y may be x. x, y [t, heads·Head], the tables [t, Head/2].
template <index Head, class X, class C, class S, class Y>
void rotary(stream_ref stream, matrix_view<X> x, matrix_view<C> cosines, matrix_view<S> sines, matrix_view<Y> y, direction turn) {
    using element = std::remove_const_t<X>;
    static_assert(std::is_same_v<element, Y>, "rotary: x and y are stored alike");
    constexpr index n = packet_elements<element, Head / 2>;
    expects(x.columns % Head == 0, [&] {
        return "rotary: expected whole heads of " + std::to_string(Head) + " columns, got " + std::to_string(x.columns) + " columns";
    });
    expect_view("rotary", "x", x, y.rows, y.columns, n * index{sizeof(X)});
    expect_view("rotary", "y", y, y.rows, y.columns, n * index{sizeof(Y)});
    expect_view("rotary", "cosines", cosines, y.rows, Head / 2, (n < 4 ? n : 4) * index{sizeof(float)});
    expect_view("rotary", "sines", sines, y.rows, Head / 2, (n < 4 ? n : 4) * index{sizeof(float)});
    if (y.rows == 0 || y.columns == 0) return;
    const int heads = static_cast<int>(x.columns / Head);
    const detail::rotary_split<Head, element> split(heads);
    const auto ctas = static_cast<unsigned>(ceil_div(y.rows, split.rows));
    if (turn == direction::forward) detail::rotary_kernel<Head, true, element><<<ctas, split.threads(), 0, stream>>>(x, cosines, sines, y, heads, split);
    else detail::rotary_kernel<Head, false, element><<<ctas, split.threads(), 0, stream>>>(x, cosines, sines, y, heads, split);
    check_launch("rotary");
}

}  // namespace longspan::cuda
