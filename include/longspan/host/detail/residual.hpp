// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/residual.hpp.
#pragma once

#include <longspan/host/residual.hpp>

namespace longspan::host {

namespace detail {

/// to[i] = keep ? fma(branch[i], factor, x[i]) : x[i] for i in [0, count); all kept if bytes is null.
template <class X, class B, class Y, class C>
void add_kept(const X* x, const B* branch, Y* to, index count, C scale, std::uint32_t threshold, const std::uint8_t* bytes) {
    const pack<C> factor = pack<C>::broadcast(scale);
    const auto sum = [&](pack<C> stream, pack<C> value, index i) __attribute__((always_inline)) {
        const pack<C> moved = fma(value, factor, stream);
        return bytes ? select(keep_mask<C>(bytes + i, threshold), moved, stream) : moved;
    };
    index i = 0;
    for (; i + pack<C>::lanes <= count; i += pack<C>::lanes)
        sum(pack<C>::load(x + i), pack<C>::load(branch + i), i).store(to + i);
    if (i < count) sum(pack<C>::load(x + i, count - i), pack<C>::load(branch + i, count - i), i).store(to + i, count - i);
}

/// kept(row, first channel, channels, bytes) for the rows of documents that keep their branch, dropped(row) for the others.
template <class Kept, class Dropped>
void for_each_branch_row(const piece_rows& pieces, index width, const branch_drop& drop, const random_site& site, Kept kept,
                         Dropped dropped) {
    const philox_key key = key_of(site);
    const index first = pieces.first, last = first + pieces.count;
    parallel_for(ceil_div(pieces.count, dropout_rows), [&](index chunk) {
        const index begin = first + chunk * dropout_rows;
        const index end = begin + dropout_rows < last ? begin + dropout_rows : last;
        for_each_piece_run(pieces.of, begin, end, [&](const piece& of, index from, index to) {
            if (drop.depth.active() && !keeps_branch(key, of.document, drop.depth)) {
                for (index t = from; t < to; ++t) dropped(t - first);
            } else {
                for_each_mask_row(of, from, to, width, drop.dropout.active(), key,
                                  [&](index t, index c, index columns, const std::uint8_t* bytes) { kept(t - first, c, columns, bytes); });
            }
        });
    });
}

}  // namespace detail

template <class X, class B, class Y>
    requires storage_format<std::remove_const_t<X>> && storage_format<std::remove_const_t<B>> && storage_format<Y>
void residual(matrix_view<X> x, matrix_view<B> branch, matrix_view<Y> y, const piece_rows& pieces, const branch_drop& drop,
              const random_site& site) {
    using C = compute_t<Y>;
    static_assert(std::same_as<compute_t<X>, C> && std::same_as<compute_t<B>, C>,
                  "residual: x, branch and y must all be double, or none of them");
    detail::expect_same_shape("residual", x, y);
    detail::expect_same_shape("residual", x, branch);
    detail::expect_table("residual", pieces, x.rows);
    const C factor = drop.depth.scale<C>() * drop.dropout.scale<C>();
    detail::for_each_branch_row(
        pieces, x.columns, drop, site,
        [&](index t, index c, index columns, const std::uint8_t* bytes) {
            detail::add_kept(x.row(t) + c, branch.row(t) + c, y.row(t) + c, columns, factor, drop.dropout.threshold(), bytes);
        },
        [&](index t) {
            for (index c = 0; c < x.columns; ++c)
                y(t, c) = from_compute<Y>(to_compute(static_cast<std::remove_const_t<X>>(x(t, c))));
        });
}

template <class G, class D>
    requires storage_format<std::remove_const_t<G>> && storage_format<D>
void residual_backward(matrix_view<G> dy, matrix_view<D> dbranch, const piece_rows& pieces, const branch_drop& drop,
                       const random_site& site) {
    using C = compute_t<D>;
    static_assert(std::same_as<compute_t<G>, C>, "residual_backward: dy and dbranch must both be double, or neither");
    detail::expect_same_shape("residual_backward", dy, dbranch);
    detail::expect_table("residual_backward", pieces, dy.rows);
    const C factor = drop.depth.scale<C>() * drop.dropout.scale<C>();
    detail::for_each_branch_row(
        pieces, dy.columns, drop, site,
        [&](index t, index c, index columns, const std::uint8_t* bytes) {
            detail::scale_kept(dy.row(t) + c, dbranch.row(t) + c, columns, factor, drop.dropout.threshold(), bytes);
        },
        [&](index t) {
            for (index c = 0; c < dy.columns; ++c) dbranch(t, c) = from_compute<D>(C(0));
        });
}

}  // namespace longspan::host
