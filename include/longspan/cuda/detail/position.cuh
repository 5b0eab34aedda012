// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/position.cuh.
#pragma once

#include <longspan/cuda/detail/held_packet.cuh>
#include <longspan/cuda/detail/row_pieces.cuh>
#include <longspan/cuda/detail/row_split.cuh>
#include <longspan/cuda/detail/turns.cuh>
#include <longspan/cuda/position.cuh>

namespace longspan::cuda {

namespace detail {

/// Four batches of two packets a thread, for one look at the pieces.
template <index Width, int N>
using learned_split = row_split<Width / N, 2, 4>;

template <index Width, class W, class X>
__global__ void __launch_bounds__(256, 6) add_learned_kernel(device_pieces pieces, matrix_view<const W> table, matrix_view<X> x) {
    constexpr int n = common_packet<Width, W, X>;
    using split = learned_split<Width, n>;
    __shared__ row_pieces<split::rows> of;
    const index first = blockIdx.x * index{split::rows};
    const int rows = split::rows_here(x.rows);
#pragma unroll 1
    for (int batch = 0; batch < split::batches; ++batch) {
        held_packet<X, n> onto[split::ahead];
        held_packet<W, n> added[split::ahead];
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (at.live) onto[k].load_once(x.row(first + at.row) + at.place * n);
        }
        if (batch == 0) {  // while the first loads are under way
            if (threadIdx.x < 32) of.find(pieces, first, rows);
            __syncthreads();
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            const index p = of.position[at.row];
            added[k].load(table.row(p < table.rows ? p : p % table.rows) + at.place * n);
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            float sum[n];
#pragma unroll
            for (int j = 0; j < n; ++j) sum[j] = onto[k][j] + added[k][j];
            write(x.row(first + at.row) + at.place * n, sum);
        }
    }
}

/// Threads of a CTA of the backward: rows of the table × packets of columns. As few as a row asks for, so that thread blocks come in
/// whole waves of a GPU where a table is small.
template <index Packets>
struct learned_share {
    static constexpr int columns = Packets < 256 ? static_cast<int>(Packets) : 256;
    static constexpr int threads = static_cast<int>(round_up(columns, 32));
    static constexpr int rows = threads / columns;
};

/// A thread owns a packet of one row of the table. CTA: (rows, columns). The pieces that reach its rows are picked out a
/// thread each.
template <index Width, class DX>
__global__ void __launch_bounds__(learned_share<Width / packet_elements<DX, Width>>::threads, 768 / learned_share<Width / packet_elements<DX, Width>>::threads)
    learned_backward_kernel(device_pieces pieces, index tokens, matrix_view<const DX> dx, matrix_view<float> d_table) {
    constexpr int n = packet_elements<DX, Width>;
    using share = learned_share<Width / n>;
    constexpr int ahead = 8, threads = share::threads, warps = threads / 32;
    __shared__ index origin[threads];                      // of the pieces at hand; row p of the table is token origin + p
    __shared__ int first_row[threads], end_row[threads];   // rows of the CTA which they reach
    __shared__ index end[threads];
    __shared__ int found[warps];
    __shared__ bool around;  // a piece goes round the table
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    const int r = static_cast<int>(threadIdx.x) / share::columns;
    const index first = blockIdx.x * index{share::rows}, row = first + r;
    const index c = (blockIdx.y * index{share::columns} + threadIdx.x % share::columns) * n;
    const bool live = r < share::rows && row < d_table.rows && c < Width;
    float sum[n] = {};
    if (live) read(d_table.row(row) + c, sum);
    for (index base = 0; base < pieces.count; base += threads) {
        const index i = base + threadIdx.x;
        bool reaches = false, wraps = false;
        index from = 0, to = 0, start = 0;
        if (i < pieces.count) {
            from = pieces.pieces[i].begin;
            to = i + 1 < pieces.count ? pieces.pieces[i + 1].begin : tokens;
            index p = pieces.pieces[i].position;
            if (p >= d_table.rows) p %= d_table.rows;
            start = from - p;
            wraps = p + (to - from) > d_table.rows;
            reaches = from < to && (wraps || (p < first + share::rows && p + (to - from) > first));
        }
        if (threadIdx.x == 0) around = false;
        const unsigned mine = __ballot_sync(0xffffffffu, reaches);
        if (lane == 0) found[warp] = __popc(mine);
        __syncthreads();
        int place = __popc(mine & ((1u << lane) - 1)), count = 0;
        for (int w = 0; w < warps; ++w) {
            if (w < warp) place += found[w];
            count += found[w];
        }
        if (reaches) {
            origin[place] = start;
            end[place] = to;
            const index low = from - start - first, high = to - start - first;
            first_row[place] = low < 0 ? 0 : low < share::rows ? static_cast<int>(low) : share::rows;
            end_row[place] = high < share::rows ? static_cast<int>(high) : share::rows;
            if (wraps) around = true;
        }
        __syncthreads();
        if (live && !around) {
            for (int l = 0; l < count; l += ahead) {
                held_packet<DX, n> more[ahead];
                bool there[ahead];
#pragma unroll
                for (int k = 0; k < ahead; ++k) {
                    there[k] = l + k < count && r >= first_row[l + k] && r < end_row[l + k];
                    if (there[k]) more[k].load(dx.row(origin[l + k] + row) + c);
                }
#pragma unroll
                for (int k = 0; k < ahead; ++k) {
                    if (!there[k]) continue;
#pragma unroll
                    for (int j = 0; j < n; ++j) sum[j] += more[k][j];
                }
            }
        } else if (live) {
            for (int l = 0; l < count; ++l) {
                index t = origin[l] + row;
                if (r < first_row[l]) t += d_table.rows;
                for (; t < end[l]; t += d_table.rows) {
                    held_packet<DX, n> more;
                    more.load(dx.row(t) + c);
#pragma unroll
                    for (int j = 0; j < n; ++j) sum[j] += more[j];
                }
            }
        }
        __syncthreads();
    }
    if (live) write(d_table.row(row) + c, sum);
}

/// A thread keeps a pair of columns and walks the CTA's rows. CTA: (rows, pairs).
inline constexpr int wave_rows = 32;
template <index Width, class X>
__global__ void __launch_bounds__(128) add_sinusoidal_kernel(device_pieces pieces, matrix_view<X> x, const __grid_constant__ turn_powers powers) {
    constexpr int n = Width % 2 == 0 ? 2 : 1;
    __shared__ row_pieces<wave_rows> of;
    const index first = blockIdx.x * index{wave_rows}, left = x.rows - first;
    const int rows = left < wave_rows ? static_cast<int>(left) : wave_rows;
    if (threadIdx.x < 32) of.find(pieces, first, rows);
    __syncthreads();
    const int j = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x);
    if (2 * j >= Width) return;
    const twofold turns = powers.turns(j);
#pragma unroll 4
    for (int r = 0; r < rows; ++r) {
        X* const at = x.row(first + r) + 2 * j;
        const cosine_and_sine w = wave(turns, static_cast<double>(of.position[r]));
        if constexpr (n == 2) {
            float pair[2];
            read(at, pair);
            pair[0] += static_cast<float>(w.sine), pair[1] += static_cast<float>(w.cosine);
            write(at, pair);
        } else {
            at[0] = narrow<X>(widen(at[0]) + static_cast<float>(w.sine));
            if (2 * j + 1 < Width) at[1] = narrow<X>(widen(at[1]) + static_cast<float>(w.cosine));
        }
    }
}

}  // namespace detail

template <index Width, class W, class X>
void add_learned_positions(stream_ref stream, const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) {
    constexpr const char* op = "add_learned_positions";
    using element = std::remove_const_t<W>;
    constexpr int n = common_packet<Width, element, X>;
    expect_view(op, "the table", table, table.rows, Width, packet_alignment<element, n>);
    expect_view(op, "x", x, x.rows, Width, packet_alignment<X, n>);
    detail::expect_table(op, pieces, x.rows);
    if (x.rows == 0) return;
    expects(table.rows > 0, [&] { return std::string(op) + ": expected a table of at least one row, got none"; });
    const unsigned ctas = detail::learned_split<Width, n>::ctas(x.rows);
    detail::add_learned_kernel<Width, element, X><<<ctas, 256, 0, stream>>>(pieces, table, x);
    check_launch(op);
}

template <index Width, class DX, class DW>
void learned_positions_backward(stream_ref stream, const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> d_table) {
    static_assert(std::is_same_v<DW, float>, "learned_positions_backward: gradients of parameters are summed in float");
    constexpr const char* op = "learned_positions_backward";
    using element = std::remove_const_t<DX>;
    constexpr int n = packet_elements<element, Width>;
    expect_view(op, "dx", dx, dx.rows, Width, packet_alignment<element, n>);
    expect_view(op, "d_table", d_table, d_table.rows, Width, packet_alignment<float, n>);
    detail::expect_table(op, pieces, dx.rows);
    if (dx.rows == 0 || d_table.rows == 0) return;
    using share = detail::learned_share<Width / n>;
    const dim3 grid(static_cast<unsigned>(ceil_div(d_table.rows, share::rows)), static_cast<unsigned>(ceil_div(Width / n, share::columns)));
    detail::learned_backward_kernel<Width, element><<<grid, share::threads, 0, stream>>>(pieces, dx.rows, dx, d_table);
    check_launch(op);
}

template <index Width, class X>
void add_sinusoidal_positions(stream_ref stream, const piece_table& pieces, matrix_view<X> x) {
    constexpr const char* op = "add_sinusoidal_positions";
    constexpr index pairs = (Width + 1) / 2;
    static_assert(pairs <= index{1} << detail::turn_powers::bits, "add_sinusoidal_positions: the width is at most 2^21");
    expect_view(op, "x", x, x.rows, Width, Width % 2 == 0 ? 2 * index{sizeof(X)} : index{sizeof(X)});
    detail::expect_table(op, pieces, x.rows);
    if (x.rows == 0) return;
    const detail::turn_powers powers(10000, Width);
    const dim3 grid(static_cast<unsigned>(ceil_div(x.rows, detail::wave_rows)), static_cast<unsigned>(ceil_div(pairs, 128)));
    detail::add_sinusoidal_kernel<Width, X><<<grid, 128, 0, stream>>>(pieces, x, powers);
    check_launch(op);
}

}  // namespace longspan::cuda
