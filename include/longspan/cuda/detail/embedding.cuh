// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/embedding.cuh.
#pragma once

#include <longspan/cuda/detail/row_split.cuh>
#include <longspan/cuda/embedding.cuh>

namespace longspan::cuda {

namespace detail {

template <index Width, class W, class X>
__global__ void __launch_bounds__(256) embed_kernel(const std::int32_t* tokens, matrix_view<const W> table, matrix_view<X> x, index* first_bad) {
    constexpr int n = common_packet<Width, W, X>;
    using split = row_split<Width / n, 4>;
    const index first = blockIdx.x * index{split::rows};
    const int rows = split::rows_here(x.rows);
    for (int batch = 0; batch < split::batches; ++batch) {
        index id[split::ahead];
        packet<W, n> stored[split::ahead];
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            id[k] = at.live ? tokens[first + at.row] : 0;
            if (id[k] < 0 || id[k] >= table.rows) {
                if (at.place == 0 && first_bad != nullptr) atomicMin(reinterpret_cast<long long*>(first_bad), static_cast<long long>(first + at.row));
                id[k] = 0;
            }
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (at.live) stored[k] = *reinterpret_cast<const packet<W, n>*>(table.row(id[k]) + at.place * n);
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            X* const to = x.row(first + at.row) + at.place * n;
            if constexpr (std::is_same_v<W, X>) {
                *reinterpret_cast<packet<X, n>*>(to) = stored[k];
            } else {
                float values[n];
#pragma unroll
                for (int j = 0; j < n; ++j) values[j] = widen(stored[k].value[j]);
                write(to, values);
            }
        }
    }
}

/// What the runs that cross pieces leave behind, in the workspace.
struct crossing_runs {
    float* rows;            // [2 · pieces, Width]: the run that came from before a piece, the run that goes on behind it
    std::int32_t* before;   // [pieces] its id where a piece's first run came from before, else −1
    std::int32_t* behind;   // [pieces] its id where a piece's last run began in it and goes on, else −1
};

/// What becomes of a sum when a run ends.
enum class run_end : unsigned char { none, add, keep };

/// CTA: (piece, columns); a thread owns a packet of columns. Rows of the tokens of a piece are summed in the order of their ids.
template <index Width, class DX>
__global__ void __launch_bounds__(256) embedding_runs(matrix_view<const DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, int piece_size,
                                                      matrix_view<float> d_table, crossing_runs crossing) {
    constexpr int n = packet_elements<DX, Width>;
    constexpr int most = 128;  // of embedding_piece()
    constexpr int ahead = 8, half = 4;  // rows of dx under way, rows of the table
    __shared__ std::int32_t token[most];
    __shared__ float* to[most];
    __shared__ __align__(8) run_end end[most];
    const index piece = blockIdx.x, first = piece * piece_size;
    const int count = first + piece_size < dx.rows ? piece_size : static_cast<int>(dx.rows - first);
    for (int i = static_cast<int>(threadIdx.x); i < most; i += static_cast<int>(blockDim.x)) {
        end[i] = run_end::none;
        token[i] = 0;  // behind the last place: read, and added to a sum that is not written
        if (i >= count) continue;
        token[i] = sorted[first + i];
        const std::int32_t id = tokens[token[i]];
        const auto id_at = [&](index place) { return tokens[sorted[place]]; };
        const bool goes_on = first + i + 1 < dx.rows && id_at(first + i + 1) == id;
        const bool last = i + 1 == count;
        if (goes_on && !last) continue;
        const bool came = first > 0 && id_at(first - 1) == id;  // from before the piece: the ids between are the same, too
        // The sum of an id that is no row is kept, where nobody looks for it, so that the next run does not begin with it.
        end[i] = came || goes_on || id < 0 || id >= d_table.rows ? run_end::keep : run_end::add;
        to[i] = end[i] == run_end::add ? d_table.row(id) : crossing.rows + (2 * piece + (came ? 0 : 1)) * Width;
    }
    if (blockIdx.y == 0 && threadIdx.x == 0) {
        const std::int32_t id0 = tokens[sorted[first]], id1 = tokens[sorted[first + count - 1]];
        const bool came = first > 0 && tokens[sorted[first - 1]] == id0;
        const bool goes_on = first + count < dx.rows && tokens[sorted[first + count]] == id1;
        crossing.before[piece] = came ? id0 : -1;
        crossing.behind[piece] = goes_on && !(came && id0 == id1) ? id1 : -1;
    }
    __syncthreads();

    const int c = static_cast<int>(blockIdx.y * blockDim.x + threadIdx.x) * n;
    float sum[n] = {};
#pragma unroll 1
    for (int base = 0; base < count; base += ahead) {
        packet<DX, n> rows[ahead];
#pragma unroll
        for (int k = 0; k < ahead; ++k) rows[k] = *reinterpret_cast<const packet<DX, n>*>(dx.row(token[base + k]) + c);
        if (*reinterpret_cast<const unsigned long long*>(end + base) == 0) {  // inside one run
#pragma unroll
            for (int k = 0; k < ahead; ++k)
#pragma unroll
                for (int j = 0; j < n; ++j) sum[j] += widen(rows[k].value[j]);
            continue;
        }
#pragma unroll
        for (int part = 0; part < ahead; part += half) {
            float onto[half][n];
#pragma unroll
            for (int k = 0; k < half; ++k) {
                if (end[base + part + k] == run_end::add) {
                    read(to[base + part + k] + c, onto[k]);
                } else {
#pragma unroll
                    for (int j = 0; j < n; ++j) onto[k][j] = 0;
                }
            }
#pragma unroll
            for (int k = 0; k < half; ++k) {
#pragma unroll
                for (int j = 0; j < n; ++j) sum[j] += widen(rows[part + k].value[j]);
                if (end[base + part + k] == run_end::none) continue;
#pragma unroll
                for (int j = 0; j < n; ++j) onto[k][j] += sum[j], sum[j] = 0;
                write(to[base + part + k] + c, onto[k]);
            }
        }
    }
}

/// Adds up the runs that cross pieces, each in the CTA of the piece where it began: `groups` of threads take consecutive shares of
/// its partial rows, which thread by thread are then added in order.
template <index Width, int Vectors, int Groups>
__global__ void __launch_bounds__(Vectors * Groups) embedding_crossing(index pieces, matrix_view<float> d_table, crossing_runs crossing) {
    constexpr int n = packet_elements<float, Width>;
    constexpr int ahead = 8;
    __shared__ float sums[Groups][Vectors][n];
    const index piece = blockIdx.x;
    const std::int32_t id = crossing.behind[piece];
    if (id < 0 || id >= d_table.rows) return;
    int count = 1;  // partial rows of this run: the one of this piece, and the first ones of those behind
    for (index at = piece + 1;; at += blockDim.x) {
        const bool same = at + threadIdx.x < pieces && crossing.before[at + threadIdx.x] == id;
        const int here = __syncthreads_count(same);
        count += here;
        if (here < static_cast<int>(blockDim.x)) break;
    }
    const int vector = static_cast<int>(threadIdx.x) % Vectors, group = static_cast<int>(threadIdx.x) / Vectors;
    const int begin = static_cast<int>(index{count} * group / Groups), stop = static_cast<int>(index{count} * (group + 1) / Groups);
    for (int c = vector * n; c < Width; c += Vectors * n) {
        float sum[n] = {};
        for (int base = begin; base < stop; base += ahead) {
            float rows[ahead][n];
#pragma unroll
            for (int k = 0; k < ahead; ++k) {
                const int i = base + k;
                if (i < stop) read(crossing.rows + (2 * (piece + i) + (i == 0 ? 1 : 0)) * Width + c, rows[k]);
            }
#pragma unroll
            for (int k = 0; k < ahead; ++k) {
#pragma unroll
                for (int j = 0; j < n; ++j) sum[j] += base + k < stop ? rows[k][j] : 0.0f;
            }
        }
#pragma unroll
        for (int j = 0; j < n; ++j) sums[group][vector][j] = sum[j];
        __syncthreads();
        if (group == 0) {
            float total[n];
            read(d_table.row(id) + c, total);
#pragma unroll
            for (int j = 0; j < n; ++j) {
                float all = 0;
#pragma unroll
                for (int g = 0; g < Groups; ++g) all += sums[g][vector][j];
                total[j] += all;
            }
            write(d_table.row(id) + c, total);
        }
        __syncthreads();
    }
}

/// The largest divisor of `packets` up to `most`: threads that share a row evenly.
[[nodiscard]] constexpr int even_share(index packets, int most) {
    int threads = packets < most ? static_cast<int>(packets) : most;
    while (packets % threads != 0) --threads;
    return threads;
}

}  // namespace detail

template <index Width, class W, class X>
void embed(stream_ref stream, const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x, index* first_bad) {
    using element = std::remove_const_t<W>;
    constexpr int n = common_packet<Width, element, X>;
    expect_view("embed", "the table", table, table.rows, Width, packet_alignment<element, n>);
    expect_view("embed", "x", x, x.rows, Width, packet_alignment<X, n>);
    if (x.rows == 0) return;
    expects(table.rows > 0, [] { return std::string("embed: expected a table of at least one row, got none"); });
    expect_pointer("embed", "tokens", tokens, sizeof(std::int32_t));
    const unsigned ctas = detail::row_split<Width / n, 4>::ctas(x.rows);
    detail::embed_kernel<Width, element, X><<<ctas, 256, 0, stream>>>(tokens, table, x, first_bad);
    check_launch("embed");
}

template <index Width, class DX, class DW>
void embedding_backward(stream_ref stream, matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> d_table,
                        std::byte* workspace) {
    static_assert(std::is_same_v<DW, float>, "embedding_backward: gradients of parameters are summed in float");
    using element = std::remove_const_t<DX>;
    constexpr int n = packet_elements<element, Width>;
    expect_view("embedding_backward", "dx", dx, dx.rows, Width, packet_alignment<element, n>);
    expect_view("embedding_backward", "d_table", d_table, d_table.rows, Width, packet_alignment<float, n>);
    if (dx.rows == 0) return;
    expect_pointer("embedding_backward", "tokens", tokens, sizeof(std::int32_t));
    expect_pointer("embedding_backward", "sorted", sorted, sizeof(std::int32_t));
    expect_pointer("embedding_backward", "a workspace", workspace, 16);
    const index size = embedding_piece(dx.rows), pieces = embedding_pieces(dx.rows);
    float* const rows = reinterpret_cast<float*>(workspace);
    auto* const ids = reinterpret_cast<std::int32_t*>(rows + 2 * pieces * Width);
    const detail::crossing_runs crossing{rows, ids, ids + pieces};
    constexpr int threads = detail::even_share(Width / n, 256);
    const dim3 grid(static_cast<unsigned>(pieces), static_cast<unsigned>(Width / n / threads));
    detail::embedding_runs<Width, element><<<grid, threads, 0, stream>>>(dx, tokens, sorted, static_cast<int>(size), d_table, crossing);
    constexpr int vectors = detail::even_share(Width / packet_elements<float, Width>, 512);
    constexpr int groups = 512 / vectors < 16 ? 512 / vectors : 16;
    detail::embedding_crossing<Width, vectors, groups><<<static_cast<unsigned>(pieces), vectors * groups, 0, stream>>>(pieces, d_table, crossing);
    check_launch("embedding_backward");
}

}  // namespace longspan::cuda
