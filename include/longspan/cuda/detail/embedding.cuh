// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/embedding.cuh.
#pragma once

#include <longspan/cuda/detail/held_packet.cuh>
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
        held_packet<W, n> stored[split::ahead];
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
            if (at.live) stored[k].load(table.row(id[k]) + at.place * n);
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            X* const to = x.row(first + at.row) + at.place * n;
            if constexpr (std::is_same_v<W, X>) {
                stored[k].store_once(to);
            } else {
                float values[n];
#pragma unroll
                for (int j = 0; j < n; ++j) values[j] = stored[k][j];
                write(to, values);
            }
        }
    }
}

/// What the runs that cross pieces leave behind, in the workspace.
struct crossing_runs {
    float* rows;           // [2 · pieces, Width]: the run that came from before a piece, the run that goes on behind it
    std::int32_t* before;  // [pieces] its id where a piece's first run came from before, else −1
    std::int32_t* behind;  // [pieces] its id where a piece's last run began in it and goes on, else −1
};

/// What becomes of a sum when a run ends.
enum class run_end : unsigned char { none, add, keep };

/// The places of one piece, in shared memory.
template <int Most>
struct piece_places {
    static constexpr int most = Most;
    std::int32_t token[most], id[most + 2];  // ids from the place before the piece to the one behind it
    float* to[most];
    alignas(4) run_end end[most];

    template <index Width>
    __device__ __forceinline__ void find_ends(int i, int count, index piece, index places, const matrix_view<float>& d_table, const crossing_runs& crossing, int piece_size) {
        const std::int32_t* const here = id + 1;
        end[i] = run_end::none;
        if (i >= count) return;
        const bool last = i + 1 == count, behind = piece * piece_size + count < places;
        const bool goes_on = last ? behind && here[i + 1] == here[i] : here[i + 1] == here[i];
        const bool came = piece > 0 && here[-1] == here[i];  // from before the piece: the ids between are the same, too
        if (i == 0) crossing.before[piece] = came ? here[0] : -1;
        if (last) crossing.behind[piece] = goes_on && !came ? here[i] : -1;
        if (goes_on && !last) return;
        // The sum of an id that is no row is kept, where nobody looks for it, so that the next run does not begin with it.
        end[i] = came || goes_on || here[i] < 0 || here[i] >= d_table.rows ? run_end::keep : run_end::add;
        to[i] = end[i] == run_end::add ? d_table.row(here[i]) : crossing.rows + (2 * piece + (came ? 0 : 1)) * Width;
    }
};

/// CTA: (piece, columns); a thread owns a packet of columns. Rows of the tokens of a piece are summed in the order of their ids: while
/// four are added, four are under way.
template <index Width, int Most, class DX>
__global__ void __launch_bounds__(128, 6) embedding_runs(matrix_view<const DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, int piece_size,
                                                         matrix_view<float> d_table, crossing_runs crossing) {
    constexpr int n = packet_elements<DX, Width>;
    constexpr int ahead = 4, at_once = 2;  // rows of dx in a half of what is under way, rows of the table
    __shared__ piece_places<Most> places;
    const index piece = blockIdx.x, first = piece * piece_size;
    const int count = first + piece_size < dx.rows ? piece_size : static_cast<int>(dx.rows - first);
    const int thread = static_cast<int>(threadIdx.x), threads = static_cast<int>(blockDim.x);
    for (int i = thread; i < count; i += threads) places.token[i] = sorted[first + i];
    __syncthreads();
    const index c = (static_cast<index>(blockIdx.y) * threads + thread) * n;
    held_packet<DX, n> even[ahead] = {}, odd[ahead] = {};
    const auto fetch = [&](held_packet<DX, n>(&rows)[ahead], int base) {
#pragma unroll
        for (int k = 0; k < ahead; ++k)
            if (base + k < count) rows[k].load(dx.row(places.token[base + k]) + c);
    };
    // Rows of the table that sums will be added to start on their way to the second-level cache.
    const auto announce = [&](int base) {
        if (base >= Most || *reinterpret_cast<const std::uint32_t*>(places.end + base) == 0) return;
#pragma unroll
        for (int k = 0; k < ahead; ++k)
            if (places.end[base + k] == run_end::add) asm volatile("prefetch.global.L2 [%0];" ::"l"(places.to[base + k] + c));
    };
    fetch(even, 0);
    fetch(odd, ahead);
    for (int i = thread; i < count + 2; i += threads) {
        const index place = first + i - 1;
        const bool inside = i > 0 && i <= count;
        if (place >= 0 && place < dx.rows) places.id[i] = tokens[inside ? places.token[i - 1] : sorted[place]];
    }
    __syncthreads();
    for (int i = thread; i < Most; i += threads)
        places.template find_ends<Width>(i, count, piece, dx.rows, d_table, crossing, piece_size);
    __syncthreads();

    announce(0);
    announce(ahead);
    float sum[n] = {};
    const auto add = [&](const held_packet<DX, n>(&rows)[ahead], int base) {
        if (*reinterpret_cast<const std::uint32_t*>(places.end + base) == 0) {  // inside one run
#pragma unroll
            for (int k = 0; k < ahead; ++k)
#pragma unroll
                for (int j = 0; j < n; ++j) sum[j] += rows[k][j];
            return;
        }
#pragma unroll
        for (int part = 0; part < ahead; part += at_once) {
            float onto[at_once][n] = {};
#pragma unroll
            for (int k = 0; k < at_once; ++k)
                if (places.end[base + part + k] == run_end::add) read(places.to[base + part + k] + c, onto[k]);
#pragma unroll
            for (int k = 0; k < at_once; ++k) {
#pragma unroll
                for (int j = 0; j < n; ++j) sum[j] += rows[part + k][j];
                if (places.end[base + part + k] == run_end::none) continue;
#pragma unroll
                for (int j = 0; j < n; ++j) onto[k][j] += sum[j], sum[j] = 0;
                write(places.to[base + part + k] + c, onto[k]);
            }
        }
    };
#pragma unroll 1
    for (int base = 0; base < count; base += 2 * ahead) {
        add(even, base);
        fetch(even, base + 2 * ahead);
        announce(base + 2 * ahead);
        add(odd, base + ahead);
        fetch(odd, base + 3 * ahead);
        announce(base + 3 * ahead);
    }
}

/// Adds up the runs that cross pieces. An item is a run and 32 packets of its columns; every CTA lists the runs, and takes its share of
/// the items. Eight warps take consecutive shares of a run's partial rows, and add their sums in order.
inline constexpr int crossing_ctas = 1056, crossing_warps = 8;
template <index Width>
__global__ void __launch_bounds__(32 * crossing_warps) embedding_crossing(int pieces, matrix_view<float> d_table, crossing_runs crossing) {
    constexpr int n = packet_elements<float, Width>;
    constexpr int threads = 32 * crossing_warps, ahead = 8;
    constexpr int strips = static_cast<int>(ceil_div(Width, 32 * n));
    __shared__ float sums[crossing_warps][32][n];
    __shared__ int runs[threads], found[crossing_warps];  // pieces where a run begins that goes on
    const int lane = static_cast<int>(threadIdx.x) % 32, warp = static_cast<int>(threadIdx.x) / 32;
    index before = 0;  // items of earlier pieces
    constexpr int listed = 8;  // pieces whose ids a thread asks for at once
    std::int32_t behind[listed];
    for (int base = 0, turn = 0; base < pieces; base += threads, turn = (turn + 1) % listed) {
        const int mine = base + static_cast<int>(threadIdx.x);
        if (turn == 0) {
#pragma unroll
            for (int k = 0; k < listed; ++k) behind[k] = mine + k * threads < pieces ? crossing.behind[mine + k * threads] : -1;
        }
        const std::int32_t goes_on = behind[0];
#pragma unroll
        for (int k = 1; k < listed; ++k) behind[k - 1] = behind[k];
        const bool begins = goes_on >= 0 && goes_on < d_table.rows;
        const unsigned voted = __ballot_sync(0xffffffffu, begins);
        if (lane == 0) found[warp] = __popc(voted);
        __syncthreads();
        int place = __popc(voted & ((1u << lane) - 1)), count = 0;
        for (int w = 0; w < crossing_warps; ++w) {
            if (w < warp) place += found[w];
            count += found[w];
        }
        if (begins) runs[place] = mine;
        __syncthreads();
        const int skip = static_cast<int>((before + gridDim.x - 1 - blockIdx.x) / gridDim.x * gridDim.x + blockIdx.x - before);
        for (int item = skip; item < count * strips; item += static_cast<int>(gridDim.x)) {
            const int piece = runs[item / strips];
            const index c = (item % strips * 32 + lane) * index{n};
            const std::int32_t id = crossing.behind[piece];
            float total[n] = {};
            if (warp == 0 && c < Width) read(d_table.row(id) + c, total);
            int rows = 1;  // partial rows of this run: the one of this piece, and the first ones of those behind
            for (int at = piece + 1;; at += threads) {
                const int same = __syncthreads_count(at + static_cast<int>(threadIdx.x) < pieces && crossing.before[at + threadIdx.x] == id);
                rows += same;
                if (same < threads) break;
            }
            const int begin = rows * warp / crossing_warps, stop = rows * (warp + 1) / crossing_warps;
            float sum[n] = {};
            for (int i = begin; i < stop && c < Width; i += ahead) {
                float part[ahead][n] = {};
#pragma unroll
                for (int k = 0; k < ahead; ++k)
                    if (i + k < stop) read(crossing.rows + (2 * (index{piece} + i + k) + (i + k == 0 ? 1 : 0)) * Width + c, part[k]);
#pragma unroll
                for (int k = 0; k < ahead; ++k)
#pragma unroll
                    for (int j = 0; j < n; ++j) sum[j] += part[k][j];
            }
#pragma unroll
            for (int j = 0; j < n; ++j) sums[warp][lane][j] = sum[j];
            __syncthreads();
            if (warp == 0 && c < Width) {
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    float all = 0;
#pragma unroll
                    for (int w = 0; w < crossing_warps; ++w) all += sums[w][lane][j];
                    total[j] += all;
                }
                write(d_table.row(id) + c, total);
            }
            __syncthreads();
        }
        before += count * strips;
        __syncthreads();
    }
}

/// The largest divisor of `packets` up to `most`: threads that share a row evenly.
[[nodiscard]] constexpr int even_share(index packets, int most) {
    int threads = packets < most ? static_cast<int>(packets) : most;
    while (packets % threads != 0) --threads;
    return threads;
}

/// Puts the sums on the stream, in pieces of `size` <= Most tokens, a multiple of 4. `workspace`: embedding_backward_workspace() bytes for
/// as many pieces.
template <index Width, int Most, class DX>
void embedding_sums(stream_ref stream, matrix_view<const DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, index size,
                    matrix_view<float> d_table, std::byte* workspace) {
    constexpr int n = packet_elements<DX, Width>, threads = even_share(Width / n, 128);
    const index pieces = ceil_div(dx.rows, size);
    float* const rows = reinterpret_cast<float*>(workspace);
    auto* const ids = reinterpret_cast<std::int32_t*>(rows + 2 * pieces * Width);
    const crossing_runs crossing{rows, ids, ids + pieces};
    const dim3 grid(static_cast<unsigned>(pieces), static_cast<unsigned>(Width / n / threads));
    embedding_runs<Width, Most, DX><<<grid, threads, 0, stream>>>(dx, tokens, sorted, static_cast<int>(size), d_table, crossing);
    embedding_crossing<Width><<<crossing_ctas, 32 * crossing_warps, 0, stream>>>(static_cast<int>(pieces), d_table, crossing);
    check_launch("embedding_backward");
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
    detail::embedding_sums<Width, longest_embedding_piece, element>(stream, dx, tokens, sorted, embedding_piece(dx.rows), d_table, workspace);
}

}  // namespace longspan::cuda
