// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/fixed_stream.cuh. A CTA takes rows as in residual.cuh, whose draws it makes.
#pragma once

#include <longspan/cuda/detail/residual.cuh>
#include <longspan/cuda/fixed_stream.cuh>

namespace longspan::cuda {

namespace detail {

__device__ __forceinline__ void note_first(index* to, index token) {
    if (to != nullptr) atomicMin(reinterpret_cast<long long*>(to), static_cast<long long>(token));
}

/// value · factor in whole units; 0 and `good` false where that is outside the range.
template <class X>
__device__ __forceinline__ X whole_units(float value, float factor, bool& good) {
    const float units = rintf(__fmul_rn(value, factor));
    const bool fits = X::fits(units);
    good = good && fits;
    return {static_cast<typename X::units_type>(fits ? units : 0.0f)};
}

template <index Width, class V, class X>
__global__ void __launch_bounds__(256) start_stream_kernel(matrix_view<const V> values, matrix_view<X> x, index* first_bad) {
    constexpr int n = common_packet<Width, V, X>;
    using split = row_split<Width / n, 4>;
    const index first = blockIdx.x * index{split::rows};
    const int rows = split::rows_here(x.rows);
    for (int batch = 0; batch < split::batches; ++batch) {
        held_packet<V, n> stored[split::ahead];
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (at.live) stored[k].load(values.row(first + at.row) + at.place * n);
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            bool good = true;
            packet<X, n> made;
#pragma unroll
            for (int j = 0; j < n; ++j) made.value[j] = whole_units<X>(stored[k][j], X::scale, good);
            *reinterpret_cast<packet<X, n>*>(x.row(first + at.row) + at.place * n) = made;
            if (!good) note_first(first_bad, first + at.row);
        }
    }
}

/// y = x ± thinned branch; row 0 is `first_token` of the pieces. `factor` is a scale times 2^Fraction, so that the product is rounded as it
/// would be without it.
template <index Width, bool Add, bool Thin, class X, class B>
__global__ void __launch_bounds__(thin_threads, 3) move_stream_kernel(matrix_view<const X> x, matrix_view<const B> branch, matrix_view<X> y,
                                                                      device_pieces pieces, index first_token, branch_drop drop, random_origin origin,
                                                                      float factor, index* first_bad) {
    using shape = thin_shape<Width, true, Thin, X, B, X>;
    constexpr int n = shape::n;
    __shared__ thin_draws<Thin ? shape::rows : 1> draws;
    const index first = blockIdx.x * index{shape::rows};
    const int rows = shape::rows_here(y.rows);
#pragma unroll 1
    for (int batch = 0; batch < shape::batches; ++batch) {
        held_packet<B, n> values[shape::ahead][shape::packets];
        packet<X, n> onto[shape::ahead][shape::packets];
#pragma unroll
        for (int k = 0; k < shape::ahead; ++k) {
            const auto at = shape::of(batch, k, rows);
            shape::for_packets(at, [&](int p, int c) {
                values[k][p].load(branch.row(first + at.row) + c);
                onto[k][p] = *reinterpret_cast<const packet<X, n>*>(x.row(first + at.row) + c);
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
            bool good = true;
            shape::for_packets(at, [&](int p, int c) {
                packet<X, n> result;
#pragma unroll
                for (int j = 0; j < n; ++j) {
                    const bool keep = !Thin || drawn.keeps(p * n + j);
                    const X before = onto[k][p].value[j];
                    const X units = whole_units<X>(keep ? values[k][p][j] : 0.0f, factor, good);
                    const X sum = Add ? before + units : before - units;
                    good = good && sum.in_range();
                    result.value[j] = sum.in_range() ? sum : before;
                }
                *reinterpret_cast<packet<X, n>*>(y.row(first + at.row) + c) = result;
            });
            if (!good) note_first(first_bad, first_token + first + at.row);
        }
    }
}

template <index Width, bool Add, class X>
__global__ void __launch_bounds__(256) merge_stream_kernel(matrix_view<X> x, matrix_view<const X> other) {
    constexpr int n = packet_elements<X, Width>;
    using split = row_split<Width / n, 4>;
    const index first = blockIdx.x * index{split::rows};
    const int rows = split::rows_here(x.rows);
    for (int batch = 0; batch < split::batches; ++batch) {
        packet<X, n> mine[split::ahead], theirs[split::ahead];
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
            mine[k] = *reinterpret_cast<const packet<X, n>*>(x.row(first + at.row) + at.place * n);
            theirs[k] = *reinterpret_cast<const packet<X, n>*>(other.row(first + at.row) + at.place * n);
        }
#pragma unroll
        for (int k = 0; k < split::ahead; ++k) {
            const auto at = split::of(batch, k, rows);
            if (!at.live) continue;
#pragma unroll
            for (int j = 0; j < n; ++j)
                mine[k].value[j] = Add ? mine[k].value[j] + theirs[k].value[j] : mine[k].value[j] - theirs[k].value[j];
            *reinterpret_cast<packet<X, n>*>(x.row(first + at.row) + at.place * n) = mine[k];
        }
    }
}

template <index Width, bool Add, class X, class B, class Y>
void move_stream(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces,
                 const branch_drop& drop, const random_origin& origin, index* first_bad) {
    static_assert(std::is_same_v<std::remove_const_t<X>, Y>, "a stream's sum is in the stream's format");
    static_assert(sizeof(Y) == 4, "streams of 64 bits, under double, are the host's");
    using b_element = std::remove_const_t<B>;
    constexpr int n = common_packet<Width, Y, b_element>;
    expect_view(op, "x", x, y.rows, Width, packet_alignment<Y, n>);
    expect_view(op, "the branch", branch, y.rows, Width, packet_alignment<b_element, n>);
    expect_view(op, "the result", y, y.rows, Width, packet_alignment<Y, n>);
    expect_table(op, pieces, y.rows);
    if (y.rows == 0) return;
    const float factor = drop.depth.scale() * drop.dropout.scale() * Y::scale;
    const auto launch = [&](auto thin) {
        constexpr bool Thin = decltype(thin)::value;
        using shape = thin_shape<Width, true, Thin, Y, b_element, Y>;
        move_stream_kernel<Width, Add, Thin, Y, b_element>
            <<<shape::ctas(y.rows), thin_threads, 0, stream>>>(x, branch, y, pieces.of, pieces.first, drop, origin, factor, first_bad);
    };
    if (drop.dropout.active() || drop.depth.active()) launch(std::true_type{});
    else launch(std::false_type{});
    check_launch(op);
}

template <index Width, bool Add, class X, class O>
void merge_stream(const char* op, stream_ref stream, matrix_view<X> x, matrix_view<O> other) {
    static_assert(std::is_same_v<X, std::remove_const_t<O>>, "streams of one format are added");
    constexpr int n = packet_elements<X, Width>;
    expect_view(op, "x", x, x.rows, Width, packet_alignment<X, n>);
    expect_view(op, "the other stream", other, x.rows, Width, packet_alignment<X, n>);
    if (x.rows == 0) return;
    merge_stream_kernel<Width, Add, X><<<row_split<Width / n, 4>::ctas(x.rows), 256, 0, stream>>>(x, other);
    check_launch(op);
}

}  // namespace detail

template <index Width, class V, fixed_format X>
void start_stream(stream_ref stream, matrix_view<V> values, matrix_view<X> x, index* first_bad) {
    static_assert(sizeof(X) == 4, "streams of 64 bits, under double, are the host's");
    using element = std::remove_const_t<V>;
    constexpr int n = common_packet<Width, element, X>;
    expect_view("start_stream", "values", values, x.rows, Width, packet_alignment<element, n>);
    expect_view("start_stream", "x", x, x.rows, Width, packet_alignment<X, n>);
    if (x.rows == 0) return;
    detail::start_stream_kernel<Width, element, X><<<detail::row_split<Width / n, 4>::ctas(x.rows), 256, 0, stream>>>(values, x, first_bad);
    check_launch("start_stream");
}

template <index Width, fixed_format X, class B, fixed_format Y>
void add_branch(stream_ref stream, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
                const random_origin& origin, index* first_bad) {
    detail::move_stream<Width, true>("add_branch", stream, x, branch, y, pieces, drop, origin, first_bad);
}

template <index Width, fixed_format Y, class B, fixed_format X>
void take_branch(stream_ref stream, matrix_view<Y> y, matrix_view<B> branch, matrix_view<X> x, const piece_rows& pieces, const branch_drop& drop,
                 const random_origin& origin, index* first_bad) {
    detail::move_stream<Width, false>("take_branch", stream, y, branch, x, pieces, drop, origin, first_bad);
}

template <index Width, fixed_format X, fixed_format O>
void add_stream(stream_ref stream, matrix_view<X> x, matrix_view<O> other) {
    detail::merge_stream<Width, true>("add_stream", stream, x, other);
}

template <index Width, fixed_format X, fixed_format O>
void take_stream(stream_ref stream, matrix_view<X> x, matrix_view<O> other) {
    detail::merge_stream<Width, false>("take_stream", stream, x, other);
}

}  // namespace longspan::cuda
