// SPDX-License-Identifier: Apache-2.0
//
// Positions that are added to the embedding, learned or sinusoidal: the twin of host/position.hpp. A position is that of a token
// within its document; padding counts round the learned table.
//
// The learned table's gradient is a sum over pieces in their order, each row by one thread of a column: deterministic. Sinusoids
// are computed in double and rounded once.
#pragma once

#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/pieces.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

namespace detail {

inline constexpr int position_threads = 256;

template <index Width, class W, class X>
__global__ void __launch_bounds__(position_threads) add_learned_kernel(device_pieces pieces, matrix_view<const W> table, matrix_view<X> x) {
    constexpr int n = common_packet<Width, W, X>;
    constexpr index packets = Width / n;
    const index i = blockIdx.x * index{position_threads} + threadIdx.x, t = i / packets, c = i % packets * n;
    if (t >= x.rows) return;
    float sum[n], added[n];
    read(x.row(t) + c, sum);
    read(table.row(pieces.position(t) % table.rows) + c, added);
#pragma unroll
    for (int j = 0; j < n; ++j) sum[j] += added[j];
    write(x.row(t) + c, sum);
}

/// A thread owns a packet of one row of the table.
template <index Width, class DX>
__global__ void __launch_bounds__(position_threads) learned_backward_kernel(device_pieces pieces, index tokens, matrix_view<const DX> dx, matrix_view<float> d_table) {
    constexpr int n = common_packet<Width, DX, float>;
    constexpr index packets = Width / n;
    const index i = blockIdx.x * index{position_threads} + threadIdx.x, row = i / packets, c = i % packets * n;
    if (row >= d_table.rows) return;
    float sum[n];
    read(d_table.row(row) + c, sum);
    for (index p = 0; p < pieces.count; ++p) {
        const index begin = pieces.pieces[p].begin, end = p + 1 < pieces.count ? pieces.pieces[p + 1].begin : tokens;
        if (begin == end) continue;
        // The first token of the piece at this row of the table; more where padding goes round.
        const index at = (row - pieces.pieces[p].position % d_table.rows + d_table.rows) % d_table.rows;
        for (index t = begin + at; t < end; t += d_table.rows) {
            float more[n];
            read(dx.row(t) + c, more);
#pragma unroll
            for (int j = 0; j < n; ++j) sum[j] += more[j];
        }
    }
    write(d_table.row(row) + c, sum);
}

template <index Width, class X>
__global__ void __launch_bounds__(position_threads) add_sinusoidal_kernel(device_pieces pieces, matrix_view<X> x) {
    const index i = blockIdx.x * index{position_threads} + threadIdx.x, pairs = (Width + 1) / 2, t = i / pairs, j = i % pairs;
    if (t >= x.rows) return;
    const double angle = static_cast<double>(pieces.position(t)) * exp2(-2.0 * static_cast<double>(j) / static_cast<double>(Width) * 13.287712379549449);  // log2 10000
    double sine = 0, cosine = 0;
    sincos(angle, &sine, &cosine);
    X* const at = x.row(t) + 2 * j;
    at[0] = narrow<X>(widen(at[0]) + static_cast<float>(sine));
    if (2 * j + 1 < Width) at[1] = narrow<X>(widen(at[1]) + static_cast<float>(cosine));
}

[[nodiscard]] inline unsigned position_grid(index items) { return static_cast<unsigned>(ceil_div(items, position_threads)); }

inline void expect_table(const char* op, const piece_table& pieces, index rows) {
    expect_pointer(op, "pieces", pieces.pieces.data(), alignof(piece));
    expects(pieces.tokens == rows, [&] {
        return std::string(op) + ": expected pieces that cover the " + std::to_string(rows) + " rows, got pieces of " + std::to_string(pieces.tokens) + " tokens";
    });
}

}  // namespace detail

/// x[t, Width] += table[position of t], rounded once. `pieces` lie in device memory.
template <index Width, class W, class X>
void add_learned_positions(stream_ref stream, const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) {
    using element = std::remove_const_t<W>;
    constexpr int n = common_packet<Width, element, X>;
    expect_view("add_learned_positions", "the table", table, table.rows, Width, n * index{sizeof(element)});
    expect_view("add_learned_positions", "x", x, x.rows, Width, n * index{sizeof(X)});
    if (x.rows == 0) return;
    expects(table.rows > 0, [] { return std::string("add_learned_positions: expected a table of at least one row, got none"); });
    detail::expect_table("add_learned_positions", pieces, x.rows);
    detail::add_learned_kernel<Width, element, X><<<detail::position_grid(x.rows * (Width / n)), detail::position_threads, 0, stream>>>(pieces, table, x);
    check_launch("add_learned_positions");
}

/// d_table[p, Width] += Σ dx[t] over the tokens at position p, piece by piece.
template <index Width, class DX, class DW>
void learned_positions_backward(stream_ref stream, const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> d_table) {
    static_assert(std::is_same_v<DW, float>, "learned_positions_backward: gradients of parameters are summed in float");
    using element = std::remove_const_t<DX>;
    constexpr int n = common_packet<Width, element, float>;
    expect_view("learned_positions_backward", "dx", dx, dx.rows, Width, n * index{sizeof(element)});
    expect_view("learned_positions_backward", "d_table", d_table, d_table.rows, Width, n * index{sizeof(float)});
    if (dx.rows == 0 || d_table.rows == 0) return;
    detail::expect_table("learned_positions_backward", pieces, dx.rows);
    detail::learned_backward_kernel<Width, element>
        <<<detail::position_grid(d_table.rows * (Width / n)), detail::position_threads, 0, stream>>>(pieces, dx.rows, dx, d_table);
    check_launch("learned_positions_backward");
}

/// x[t, 2j] += sin(p / 10000^(2j / Width)), x[t, 2j + 1] += cos of the same, p the position of t; rounded once.
template <index Width, class X>
void add_sinusoidal_positions(stream_ref stream, const piece_table& pieces, matrix_view<X> x) {
    expect_view("add_sinusoidal_positions", "x", x, x.rows, Width, sizeof(X));
    if (x.rows == 0) return;
    detail::expect_table("add_sinusoidal_positions", pieces, x.rows);
    detail::add_sinusoidal_kernel<Width, X><<<detail::position_grid(x.rows * ((Width + 1) / 2)), detail::position_threads, 0, stream>>>(pieces, x);
    check_launch("add_sinusoidal_positions");
}

}  // namespace longspan::cuda
