// SPDX-License-Identifier: Apache-2.0
//
// Forward bodies of cuda/head_norm_rotary.cuh. A head belongs to a few lanes of one warp, each with packets of its lower half and those which
// they turn against, of its upper half: norm and turn need nothing but a sum over lanes.
//
// A thread takes the same packets of two heads side by side, for which it reads angles and weight once.
#pragma once

#include <bit>

#include <longspan/cuda/detail/target.cuh>
#include <longspan/cuda/head_norm_rotary.cuh>

namespace longspan::cuda {

namespace detail {

/// How lanes share a head; what row_source takes.
template <index Head, class... T>
struct turned_shape {
    static_assert(Head % 2 == 0, "head_norm_rotary: the head width is even");
    static constexpr int half = static_cast<int>(Head / 2);
    static constexpr int n = common_packet<half, T...>;         // elements of a packet
    static constexpr int packets = half / n;                    // of half a head
    static constexpr int lanes = packets > 32 ? 32 : static_cast<int>(std::bit_ceil(static_cast<unsigned>(packets)));
    static constexpr int pairs = (packets + lanes - 1) / lanes; // packets of a lane of either half
    static constexpr int each = 2 * pairs;                      // the lower half's, then those of the upper half
    static constexpr int rows = norm_threads / lanes;           // heads of a CTA at a time
    static constexpr bool whole = packets % lanes == 0;
    static_assert(pairs <= 2, "head_norm_rotary: heads of at most 1,024 elements of two bytes, 512 of four");

    __device__ static int column(int lane, int k) { return k / pairs * half + (lane + k % pairs * lanes) * n; }
    __device__ static bool has(int lane, int k) { return whole || lane + k % pairs * lanes < packets; }
};

template <index Head, class Of>
[[nodiscard]] int whole_heads(const char* op, const Of& of) {
    expects(of.x.columns % Head == 0, [&] {
        return std::string(op) + ": expected whole heads of " + std::to_string(Head) + " columns, got " + std::to_string(of.x.columns) + " columns";
    });
    return static_cast<int>(of.x.columns / Head);
}

template <index Head>
void expect_angles(const char* op, matrix_view<const float> cosines, matrix_view<const float> sines, index rows, int n) {
    expect_view(op, "cosines", cosines, rows, Head / 2, (n < 4 ? n : 4) * index{sizeof(float)});
    expect_view(op, "sines", sines, rows, Head / 2, (n < 4 ? n : 4) * index{sizeof(float)});
}

template <class X, class W, class Y>
struct heads_to_turn {
    matrix_view<const X> x;
    matrix_view<Y> y;
    matrix_view<float> rstd;
    const W* weight = nullptr;
    int heads = 0, groups = 0;  // of heads that a thread takes together
};

template <class X, class W, class Y>
struct turn_call {
    heads_to_turn<X, W, Y> of[2];  // queries, keys
    matrix_view<const float> cosines, sines;
    int rows = 1;  // tokens of a CTA
    float epsilon = 0;
};

template <index Head, class X, class W, class Y>
struct turn_shape : turned_shape<Head, X, Y> {
    using base = turned_shape<Head, X, Y>;
    using parameters = held_parameters<W, base::n>;
    static constexpr int several = 4 / base::each;  // heads of a thread: 64 bytes under way
    // As many as their registers allow; for sm_80 the compiler wants a few more of them.
    static constexpr int resident = base::each * base::n > 16 || parameters::size > 16 || before_hopper ? 2 : 3;
};

template <index Head, class X, class W, class Y>
__global__ void __launch_bounds__(norm_threads, turn_shape<Head, X, W, Y>::resident)
    head_norm_rotary_kernel(const __grid_constant__ turn_call<X, W, Y> call) {
    using shape = turn_shape<Head, X, W, Y>;
    constexpr int n = shape::n, pairs = shape::pairs, several = shape::several;
    const int lane = static_cast<int>(threadIdx.x) % shape::lanes;
    const int groups = call.of[0].groups + call.of[1].groups, items = call.rows * groups;
    const index first = blockIdx.x * index{call.rows};
    for (int begin = 0; begin < items; begin += shape::rows) {
        const int item = begin + static_cast<int>(threadIdx.x) / shape::lanes, row = item / groups, group = item - row * groups;
        const bool keys = group >= call.of[0].groups;
        const auto& of = call.of[keys ? 1 : 0];
        const int head = (keys ? group - call.of[0].groups : group) * several;
        const index t = first + row;
        const int live = item < items && t < call.cosines.rows ? of.heads - head : 0;
        held_packet<X, n> x[several][shape::each];
        float cosine[pairs][n] = {}, sine[pairs][n] = {};
        typename shape::parameters weight[shape::each];
#pragma unroll
        for (int h = 0; h < several; ++h)
#pragma unroll
            for (int k = 0; k < shape::each; ++k) {
                x[h][k] = {};
                if (h < live && shape::has(lane, k)) x[h][k].load(of.x.row(t) + (head + h) * Head + shape::column(lane, k));
            }
        if (live > 0) {
#pragma unroll
            for (int k = 0; k < shape::each; ++k) {
                if (!shape::has(lane, k)) continue;
                const int c = shape::column(lane, k);
                weight[k].load(of.weight + c);
                if (k < pairs) read(call.cosines.row(t) + c, cosine[k]), read(call.sines.row(t) + c, sine[k]);
            }
        }
        float rstd[several];
        int turn = 0;
#pragma unroll
        for (int h = 0; h < several; ++h) {
            float squares = 0;
#pragma unroll
            for (int k = 0; k < shape::each; ++k)
#pragma unroll
                for (int j = 0; j < n; ++j) squares = fmaf(x[h][k][j], x[h][k][j], squares);
            squares = sum_over_lanes<shape::lanes>(squares, turn);
            rstd[h] = 1.0f / sqrtf(squares / static_cast<float>(Head) + call.epsilon);
            if (lane == 0 && h < live) of.rstd(t, head + h) = rstd[h];
        }
#pragma unroll
        for (int h = 0; h < several; ++h) {
            if (h >= live) break;
            Y* const to = of.y.row(t) + (head + h) * Head;
#pragma unroll
            for (int p = 0; p < pairs; ++p) {
                if (!shape::has(lane, p)) continue;
                float low[n], high[n];
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    const float a = x[h][p][j] * rstd[h] * weight[p][j], b = x[h][p + pairs][j] * rstd[h] * weight[p + pairs][j];
                    low[j] = fmaf(a, cosine[p][j], -(b * sine[p][j]));
                    high[j] = fmaf(b, cosine[p][j], a * sine[p][j]);
                }
                write(to + shape::column(lane, p), low);
                write(to + shape::column(lane, p + pairs), high);
            }
        }
    }
}

}  // namespace detail

template <index Head, class Queries, class Keys, class C>
void head_norm_rotary(stream_ref stream, const Queries& queries, const Keys& keys, double epsilon, matrix_view<C> cosines, matrix_view<C> sines) {
    using X = std::remove_const_t<std::remove_pointer_t<decltype(queries.x.data)>>;
    using W = std::remove_const_t<std::remove_pointer_t<decltype(queries.weight)>>;
    using Y = std::remove_pointer_t<decltype(queries.y.data)>;
    using shape = detail::turn_shape<Head, X, W, Y>;
    constexpr const char* op = "head_norm_rotary";
    constexpr int n = shape::n;
    detail::turn_call<X, W, Y> call;
    const index rows = queries.x.rows;
    const auto take = [&](auto& into, const auto& of) {
        into.heads = detail::whole_heads<Head>(op, of);
        into.groups = (into.heads + shape::several - 1) / shape::several;
        expect_view(op, "x", of.x, rows, into.heads * Head, n * index{sizeof(X)});
        expect_view(op, "y", of.y, rows, into.heads * Head, n * index{sizeof(Y)});
        expect_view(op, "rstd", of.rstd, rows, into.heads);
        if (rows > 0 && into.heads > 0) expect_pointer(op, "the weight", of.weight, packet_alignment<W, n>);
        into.x = of.x, into.y = of.y, into.rstd = of.rstd, into.weight = of.weight;
    };
    take(call.of[0], queries), take(call.of[1], keys);
    call.cosines = cosines, call.sines = sines, call.epsilon = static_cast<float>(epsilon);
    detail::expect_angles<Head>(op, call.cosines, call.sines, rows, n);
    const int groups = call.of[0].groups + call.of[1].groups;
    if (rows == 0 || groups == 0) return;
    call.rows = groups < shape::rows ? shape::rows / groups : 1;
    detail::head_norm_rotary_kernel<Head, X, W, Y><<<static_cast<unsigned>(ceil_div(rows, call.rows)), detail::norm_threads, 0, stream>>>(call);
    check_launch(op);
}

}  // namespace longspan::cuda
