// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/fixed_stream.hpp. Plain loops: every value is rounded where it becomes whole, so no bit depends on how a compiler
// vectorises them.
#pragma once

#include <atomic>
#include <cmath>
#include <cstdint>

#include <longspan/host/detail/residual.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/fixed_stream.hpp>

namespace longspan::host {

namespace detail {

/// Lowers *to, if there is one, to `token`; from any thread.
inline void note_first(index* to, index token) {
    if (to == nullptr) return;
    const std::atomic_ref<index> note(*to);
    index before = note.load(std::memory_order_relaxed);
    while (token < before && !note.compare_exchange_weak(before, token, std::memory_order_relaxed)) {}
}

/// value · factor in whole units; 0 and `good` false where that is outside the range. `factor` is a scale times 2^Fraction, so that the
/// product is rounded as it would be without it.
template <fixed_format X, class C>
[[nodiscard]] LONGSPAN_INLINE X whole_units(C value, C factor, bool& good) {
    const C units = std::rint(value * factor);
    const bool fits = X::fits(units);
    good &= fits;
    return {static_cast<typename X::units_type>(fits ? units : C(0))};
}

template <bool Add, class X, class B, class Y>
void move_stream(const char* op, matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces,
                 const branch_drop& drop, const random_site& site, index* first_bad) {
    using C = compute_t<Y>;
    static_assert(std::same_as<std::remove_const_t<X>, Y>, "a stream's sum is in the stream's format");
    static_assert(std::same_as<compute_t<B>, C>, "a stream and its branch are both of double, or neither is");
    expect_same_shape(op, x, y);
    expect_same_shape(op, x, branch);
    expect_table(op, pieces, x.rows);
    const C factor = drop.depth.scale<C>() * drop.dropout.scale<C>() * Y::scale;
    const std::uint32_t threshold = drop.dropout.threshold();
    for_each_branch_row(
        pieces, x.columns, drop, site,
        [&](index t, index c, index columns, const std::uint8_t* bytes) {
            const X* const from = x.row(t) + c;
            const B* const added = branch.row(t) + c;
            Y* const to = y.row(t) + c;
            bool good = true;
            for (index i = 0; i < columns; ++i) {
                if (bytes && bytes[i] < threshold) {
                    to[i] = from[i];
                    continue;
                }
                const Y units = whole_units<Y>(to_compute(static_cast<std::remove_const_t<B>>(added[i])), factor, good);
                const Y sum = Add ? from[i] + units : from[i] - units;
                good &= sum.in_range();
                to[i] = sum.in_range() ? sum : from[i];
            }
            if (!good) note_first(first_bad, pieces.first + t);
        },
        [&](index t) {
            for (index c = 0; c < x.columns; ++c) y(t, c) = x(t, c);
        });
}

template <bool Add, class X, class O>
void merge_stream(const char* op, matrix_view<X> x, matrix_view<O> other) {
    static_assert(std::same_as<X, std::remove_const_t<O>>, "streams of one format are added");
    expect_same_shape(op, x, other);
    for_row_blocks(x.rows, 16, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for (index c = 0; c < x.columns; ++c) x(t, c) = Add ? x(t, c) + other(t, c) : x(t, c) - other(t, c);
        }
    });
}

}  // namespace detail

template <storage V, fixed_format X>
void start_stream(matrix_view<V> values, matrix_view<X> x, index* first_bad) {
    static_assert(std::same_as<compute_t<V>, compute_t<X>>, "start_stream: values and stream are both of double, or neither is");
    detail::expect_same_shape("start_stream", values, x);
    detail::for_row_blocks(x.rows, 16, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            bool good = true;
            for (index c = 0; c < x.columns; ++c)
                x(t, c) = detail::whole_units<X>(to_compute(static_cast<std::remove_const_t<V>>(values(t, c))), X::scale, good);
            if (!good) detail::note_first(first_bad, t);
        }
    });
}

template <fixed_format X, storage B, fixed_format Y>
void add_branch(matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
                const random_site& site, index* first_bad) {
    detail::move_stream<true>("add_branch", x, branch, y, pieces, drop, site, first_bad);
}

template <fixed_format Y, storage B, fixed_format X>
void take_branch(matrix_view<Y> y, matrix_view<B> branch, matrix_view<X> x, const piece_rows& pieces, const branch_drop& drop,
                 const random_site& site, index* first_bad) {
    detail::move_stream<false>("take_branch", y, branch, x, pieces, drop, site, first_bad);
}

template <fixed_format X, fixed_format O>
void add_stream(matrix_view<X> x, matrix_view<O> other) {
    detail::merge_stream<true>("add_stream", x, other);
}

template <fixed_format X, fixed_format O>
void take_stream(matrix_view<X> x, matrix_view<O> other) {
    detail::merge_stream<false>("take_stream", x, other);
}

}  // namespace longspan::host
