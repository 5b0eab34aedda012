// SPDX-License-Identifier: Apache-2.0
//
// Backward bodies of cuda/head_norm_rotary.cuh. Thread blocks stay and walk the heads of one kind, queries or keys, with the weight's
// gradient in registers and the next heads on their way to shared memory, as in norm_backward.cuh. A kind has as many of the
// norm_parts as it has heads of all, at least one: a constant of the arithmetic, not of the device.
#pragma once

#include <longspan/cuda/detail/head_norm_rotary.cuh>

namespace longspan::cuda {

namespace detail {

template <class DY, class X, class W, class DX>
struct heads_to_turn_back {
    matrix_view<const DY> dy;
    matrix_view<const X> x;
    matrix_view<DX> dx;
    matrix_view<const float> rstd;
    const W* weight = nullptr;
    int heads = 0, ctas = 0;
    float* parts = nullptr;  // [ctas, Head]
};

template <class DY, class X, class W, class DX>
struct turn_back_call {
    heads_to_turn_back<DY, X, W, DX> of[2];
    matrix_view<const float> cosines, sines;
};

template <index Head, class DY, class X, class W, class DX>
struct turn_back_shape : turned_shape<Head, DY, X, DX> {
    using base = turned_shape<Head, DY, X, DX>;
    using parameters = held_parameters<W, base::n>;
    static constexpr int stages = stages_within(96 << 10, bytes{base::each} * norm_threads * base::n * (sizeof(DY) + sizeof(X)));
    static constexpr int resident = base::each * base::n <= 16 ? 2 : 1;
    using dy_source = row_source<base, stages, DY>;
    using x_source = row_source<base, stages, X>;
    static constexpr int rows_memory = dy_source::size + x_source::size;
    static constexpr int memory = rows_memory > int{Head * sizeof(float)} ? rows_memory : int{Head * sizeof(float)};
};

/// One head after the other of those side by side in the rows of a tensor, `step` of them at a time.
struct head_walk {
    index token, step_tokens;
    int head, step_heads, heads;

    __device__ head_walk(index first, index step, int heads_)
        : token(first / heads_), step_tokens(step / heads_), head(static_cast<int>(first % heads_)), step_heads(static_cast<int>(step % heads_)), heads(heads_) {}
    __device__ __forceinline__ void next() {
        token += step_tokens;
        head += step_heads;
        if (head >= heads) head -= heads, ++token;
    }
};

template <index Head, class DY, class X, class W, class DX>
__global__ void __launch_bounds__(norm_threads, turn_back_shape<Head, DY, X, W, DX>::resident)
    head_norm_rotary_backward_kernel(const __grid_constant__ turn_back_call<DY, X, W, DX> call) {
    using shape = turn_back_shape<Head, DY, X, W, DX>;
    constexpr int n = shape::n, pairs = shape::pairs, each = shape::each, stages = shape::stages;
    extern __shared__ uint4 rows_coming[];
    const bool keys = static_cast<int>(blockIdx.x) >= call.of[0].ctas;
    const auto& of = call.of[keys ? 1 : 0];
    const index cta = static_cast<int>(blockIdx.x) - (keys ? call.of[0].ctas : 0), tokens = call.cosines.rows;
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes, group = static_cast<int>(threadIdx.x) / shape::lanes;
    auto* const memory = reinterpret_cast<std::byte*>(rows_coming);
    typename shape::dy_source dy_rows(memory);
    typename shape::x_source x_rows(memory + shape::dy_source::size);
    typename shape::parameters weight[each];
#pragma unroll
    for (int k = 0; k < each; ++k) {
        if (shape::has(lane, k)) weight[k].load(of.weight + shape::column(lane, k));
    }
    float total[each][n] = {};
    const auto ask = [&](int slot, const head_walk& at) {
        const bool live = at.token < tokens;
        const index token = live ? at.token : 0, begin = at.head * Head;
        dy_rows.ask(slot, of.dy.row(token) + begin, lane, live);
        x_rows.ask(slot, of.x.row(token) + begin, lane, live);
        if constexpr (stages > 1) ptx::commit_copies();
    };
    const index step = of.ctas * index{shape::rows};
    head_walk at(cta * shape::rows + group, step, of.heads), coming = at;
    for (int s = 0; s < stages - 1; ++s) ask(s, coming), coming.next();
    int slot = 0, turn = 0;
    for (index base = cta * shape::rows; base < tokens * of.heads; base += step, at.next(), slot = slot == stages - 1 ? 0 : slot + 1) {
        const bool live = at.token < tokens;
        const float rstd = live ? of.rstd(at.token, at.head) : 0.0f;
        float cosine[pairs][n] = {}, sine[pairs][n] = {};
#pragma unroll
        for (int p = 0; p < pairs; ++p) {
            if (!live || !shape::has(lane, p)) continue;
            read(call.cosines.row(at.token) + shape::column(lane, p), cosine[p]);
            read(call.sines.row(at.token) + shape::column(lane, p), sine[p]);
        }
        ask(slot == 0 ? stages - 1 : slot - 1, coming), coming.next();
        if constexpr (stages > 1) ptx::wait_copies<stages - 1>();
        float d[each][n], mean = 0;  // dy, turned back
#pragma unroll
        for (int p = 0; p < pairs; ++p) {
            const auto low = dy_rows.get(slot, lane, p), high = dy_rows.get(slot, lane, p + pairs);
            const auto x_low = x_rows.get(slot, lane, p), x_high = x_rows.get(slot, lane, p + pairs);
            if (!shape::has(lane, p)) continue;
#pragma unroll
            for (int j = 0; j < n; ++j) {
                d[p][j] = fmaf(low[j], cosine[p][j], high[j] * sine[p][j]);
                d[p + pairs][j] = fmaf(high[j], cosine[p][j], -(low[j] * sine[p][j]));
                const float hat_low = x_low[j] * rstd, hat_high = x_high[j] * rstd;
                total[p][j] = fmaf(d[p][j], hat_low, total[p][j]);
                total[p + pairs][j] = fmaf(d[p + pairs][j], hat_high, total[p + pairs][j]);
                d[p][j] *= weight[p][j], d[p + pairs][j] *= weight[p + pairs][j];
                mean = fmaf(d[p + pairs][j], hat_high, fmaf(d[p][j], hat_low, mean));
            }
        }
        mean = sum_over_lanes<shape::lanes>(mean, turn) / static_cast<float>(Head);
        if (!live) continue;
        DX* const to = of.dx.row(at.token) + at.head * Head;
#pragma unroll
        for (int k = 0; k < each; ++k) {
            if (!shape::has(lane, k)) continue;
            const auto x = x_rows.get(slot, lane, k);
#pragma unroll
            for (int j = 0; j < n; ++j) d[k][j] = rstd * fmaf(-(x[j] * rstd), mean, d[k][j]);
            write(to + shape::column(lane, k), d[k]);
        }
    }
    if constexpr (stages > 1) ptx::wait_copies<0>();
    auto* const row = reinterpret_cast<float*>(memory);
    add_groups<shape>(total, row, lane, group);
    for (int c = static_cast<int>(threadIdx.x); c < Head; c += norm_threads) of.parts[cta * Head + c] = row[c];
}

struct parts_of_weight {
    const float* parts = nullptr;
    index count = 0;
    float* dweight = nullptr;
};

/// dweight[c] += Σ over the parts of queries, and of keys in the grid's second row.
template <index Head>
__global__ void __launch_bounds__(norm_threads) head_norm_parts_kernel(parts_of_weight queries, parts_of_weight keys) {
    const parts_of_weight of = blockIdx.y == 0 ? queries : keys;
    const index column = blockIdx.x * index{32} + threadIdx.x % 32;
    add_parts(of.parts + column, Head, column < Head ? of.count : 0, column < Head && of.count > 0 ? of.dweight + column : nullptr);
}

/// A kind's share of all parts: in proportion to its heads, and at least one.
[[nodiscard]] constexpr index parts_of_heads(index heads, index others) {
    if (heads == 0 || others == 0) return heads == 0 ? 0 : norm_parts;
    const index share = (norm_parts * heads + (heads + others) / 2) / (heads + others);
    return share < 1 ? 1 : share > norm_parts - 1 ? norm_parts - 1 : share;
}

}  // namespace detail

template <index Head, class Queries, class Keys, class C>
void head_norm_rotary_backward(stream_ref stream, const Queries& queries, const Keys& keys, matrix_view<C> cosines, matrix_view<C> sines,
                               std::byte* workspace) {
    using DY = std::remove_const_t<std::remove_pointer_t<decltype(queries.dy.data)>>;
    using X = std::remove_const_t<std::remove_pointer_t<decltype(queries.x.data)>>;
    using W = std::remove_const_t<std::remove_pointer_t<decltype(queries.weight)>>;
    using DX = std::remove_pointer_t<decltype(queries.dx.data)>;
    using shape = detail::turn_back_shape<Head, DY, X, W, DX>;
    constexpr const char* op = "head_norm_rotary_backward";
    constexpr int n = shape::n;
    detail::turn_back_call<DY, X, W, DX> call;
    detail::parts_of_weight parts[2];
    const index rows = queries.x.rows;
    const auto take = [&](int kind, const auto& of, float* to, index most) {
        auto& into = call.of[kind];
        into.heads = detail::whole_heads<Head>(op, of);
        expect_view(op, "dy", of.dy, rows, into.heads * Head, n * index{sizeof(DY)});
        expect_view(op, "x", of.x, rows, into.heads * Head, n * index{sizeof(X)});
        expect_view(op, "dx", of.dx, rows, into.heads * Head, n * index{sizeof(DX)});
        expect_view(op, "rstd", of.rstd, rows, into.heads);
        if (rows > 0 && into.heads > 0) {
            expect_pointer(op, "the weight", of.weight, packet_alignment<W, n>);
            expect_pointer(op, "dweight", of.dweight, sizeof(float));
        }
        const index wanted = ceil_div(rows * into.heads, shape::rows);
        into.dy = of.dy, into.x = of.x, into.dx = of.dx, into.rstd = of.rstd, into.weight = of.weight;
        into.ctas = static_cast<int>(wanted < most ? wanted : most), into.parts = to;
        parts[kind] = {to, into.ctas, of.dweight};
    };
    if (rows > 0 && queries.x.columns + keys.x.columns > 0) expect_pointer(op, "workspace", workspace, 16);
    const index query_parts = detail::parts_of_heads(queries.x.columns / Head, keys.x.columns / Head);
    auto* const memory = reinterpret_cast<float*>(workspace);
    take(0, queries, memory, query_parts), take(1, keys, memory + query_parts * Head, norm_parts - query_parts);
    call.cosines = cosines, call.sines = sines;
    detail::expect_angles<Head>(op, call.cosines, call.sines, rows, n);
    const index ctas = call.of[0].ctas + call.of[1].ctas;
    if (ctas == 0) return;
    detail::launch_rows(op, stream, detail::head_norm_rotary_backward_kernel<Head, DY, X, W, DX>, ctas, shape::memory, call);
    detail::head_norm_parts_kernel<Head><<<dim3(static_cast<unsigned>(ceil_div(Head, 32)), 2), detail::norm_threads, 0, stream>>>(parts[0], parts[1]);
    check_launch(op);
}

}  // namespace longspan::cuda
