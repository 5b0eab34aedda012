// SPDX-License-Identifier: Apache-2.0
//
// The bodies of host/head_norm_rotary.hpp: a head's lower and upper half are walked side by side.
#pragma once

#include <longspan/host/head_norm_rotary.hpp>

namespace longspan::host::detail {

/// The two halves of a head at the same place.
template <class T>
struct pack_pair {
    pack<T> low, high;
};

template <class X, class W, class Y, class S, class C>
void norm_and_turn(const normed_heads<X, W, Y, S>& of, index head, double epsilon, matrix_view<C> cosines, matrix_view<C> sines) {
    using T = compute_t<X>;
    using vector = pack<T>;
    static_assert(one_arithmetic<X, W, Y, C>, "head_norm_rotary: x, weight, table and y are all double, or none is");
    static_assert(sizeof(S) >= sizeof(T), "head_norm_rotary: the statistics are double where x is");
    const index half = head / 2;
    for_row_blocks(of.x.rows, norm_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for (index h = 0; h < of.x.columns / head; ++h) {
                const auto* const from = of.x.row(t) + h * head;
                auto* const to = of.y.row(t) + h * head;
                vector squares = vector::zero();
                for_packs<T>(head, [&](index at, index count) {
                    const vector x = read<T>(from, at, count);
                    squares = fma(x, x, squares);
                });
                const T r = T(1) / std::sqrt(sum(squares) / static_cast<T>(head) + static_cast<T>(epsilon));
                of.rstd(t, h) = r;
                const vector scale = vector::broadcast(r);
                for_packs<T>(half, [&](index at, index count) {
                    const vector c = read<T>(cosines.row(t), at, count), s = read<T>(sines.row(t), at, count);
                    const vector a = read<T>(from, at, count) * scale * read_weight<T>(of.weight, at, count);
                    const vector b = read<T>(from + half, at, count) * scale * read_weight<T>(of.weight ? of.weight + half : nullptr, at, count);
                    write(fma(a, c, -(b * s)), to, at, count);
                    write(fma(b, c, a * s), to + half, at, count);
                });
            }
        }
    });
}

/// dx of rows [begin, end) of one kind of head; dw_low and dw_high (half a head each, whole packs) take their share of dweight.
template <class T, class Of, class C>
void turn_and_norm_back(const Of& of, index head, matrix_view<C> cosines, matrix_view<C> sines, index begin, index end, T* dw_low, T* dw_high) {
    using vector = pack<T>;
    const index half = head / 2;
    for (index t = begin; t < end; ++t) {
        for (index h = 0; h < of.x.columns / head; ++h) {
            const auto* const x = of.x.row(t) + h * head;
            const auto* const dy = of.dy.row(t) + h * head;
            auto* const dx = of.dx.row(t) + h * head;
            const vector scale = vector::broadcast(static_cast<T>(of.rstd(t, h)));
            const auto turned = [&](index at, index count) __attribute__((always_inline)) {
                const vector c = read<T>(cosines.row(t), at, count), s = read<T>(sines.row(t), at, count);
                const vector a = read<T>(dy, at, count), b = read<T>(dy + half, at, count);
                return pack_pair<T>{fma(a, c, b * s), fma(b, c, -(a * s))};
            };
            const auto unit = [&](index at, index count) __attribute__((always_inline)) {
                return pack_pair<T>{read<T>(x, at, count) * scale, read<T>(x + half, at, count) * scale};
            };
            const auto weighted = [&](const pack_pair<T>& d, index at, index count) __attribute__((always_inline)) {
                return pack_pair<T>{d.low * read_weight<T>(of.weight, at, count),
                                    d.high * read_weight<T>(of.weight ? of.weight + half : nullptr, at, count)};
            };
            vector along = vector::zero();
            for_packs<T>(half, [&](index at, index count) {
                const auto d = turned(at, count), u = unit(at, count), g = weighted(d, at, count);
                along = fma(g.high, u.high, fma(g.low, u.low, along));
                fma(d.low, u.low, vector::load(dw_low + at)).store(dw_low + at);
                fma(d.high, u.high, vector::load(dw_high + at)).store(dw_high + at);
            });
            const vector share = vector::broadcast(-sum(along) / static_cast<T>(head));
            for_packs<T>(half, [&](index at, index count) {
                const auto u = unit(at, count), g = weighted(turned(at, count), at, count);
                write(fma(u.low, share, g.low) * scale, dx, at, count);
                write(fma(u.high, share, g.high) * scale, dx + half, at, count);
            });
        }
    }
}

template <class DY, class X, class W, class S, class DX, class DW, class C>
void turn_and_norm_back(const normed_heads_gradient<DY, X, W, S, DX, DW>& of, index head, matrix_view<C> cosines, matrix_view<C> sines) {
    using T = compute_t<X>;
    using vector = pack<T>;
    static_assert(one_arithmetic<DY, X, W, DX, DW, C>, "head_norm_rotary_backward: dy, x, weight, table, dx and dweight are all double, or none is");
    constexpr index room = norm_partial_bytes / static_cast<bytes>(sizeof(T));
    const index half = head / 2, padded = round_up(half, vector::lanes), each = 2 * padded;
    expects(each <= room, [&] {
        return "head_norm_rotary_backward: expected heads of at most " + std::to_string(room) + " columns, got " + std::to_string(head);
    });
    const index panels = room / each < norm_panels ? room / each : norm_panels;
    alignas(64) T partial[room];
    for (index first = 0; first < of.x.rows; first += panels * norm_rows) {
        const index left = of.x.rows - first, count = left < panels * norm_rows ? left : panels * norm_rows;
        for_row_blocks(count, norm_rows, [&](index begin, index end) {
            T* const own = partial + begin / norm_rows * each;
            for (index i = 0; i < each; i += vector::lanes) vector::zero().store(own + i);
            turn_and_norm_back(of, head, cosines, sines, first + begin, first + end, own, own + padded);
        });
        for (const index side : {0, 1}) {
            for_packs<T>(half, [&](index at, index lanes) {
                vector total = vector::zero();
                for (index p = 0; p < ceil_div(count, norm_rows); ++p) total += vector::load(partial + p * each + side * padded + at);
                DW* const to = of.dweight + side * half;
                write(read<T>(to, at, lanes) + total, to, at, lanes);
            });
        }
    }
}

template <class Of, class C>
void expect_heads_and_table(const char* op, const Of& of, index head, matrix_view<C> cosines, matrix_view<C> sines) {
    expect_whole_heads(op, of.x.columns, head);
    expect_same_extent(op, "2 · cosines.columns", 2 * cosines.columns, "head", head);
    expect_same_extent(op, "cosines.rows", cosines.rows, "x.rows", of.x.rows);
    expect_same_shape(op, "cosines and sines", cosines, sines);
    expect_same_extent(op, "rstd.columns", of.rstd.columns, "heads", of.x.columns / head);
    expect_same_extent(op, "rstd.rows", of.rstd.rows, "x.rows", of.x.rows);
}

}  // namespace longspan::host::detail

namespace longspan::host {

template <class Queries, class Keys, storage C>
void head_norm_rotary(const Queries& queries, const Keys& keys, index head, double epsilon, matrix_view<C> cosines, matrix_view<C> sines) {
    const auto all = [&](const auto& of) {
        detail::expect_heads_and_table("head_norm_rotary", of, head, cosines, sines);
        detail::expect_same_shape("head_norm_rotary", "x and y", of.x, of.y);
        detail::norm_and_turn(of, head, epsilon, cosines, sines);
    };
    all(queries), all(keys);
}

template <class Queries, class Keys, storage C>
void head_norm_rotary_backward(const Queries& queries, const Keys& keys, index head, matrix_view<C> cosines, matrix_view<C> sines) {
    const auto all = [&](const auto& of) {
        detail::expect_heads_and_table("head_norm_rotary_backward", of, head, cosines, sines);
        detail::expect_same_shape("head_norm_rotary_backward", "dy and x", of.dy, of.x);
        detail::expect_same_shape("head_norm_rotary_backward", "dx and x", of.dx, of.x);
        detail::turn_and_norm_back(of, head, cosines, sines);
    };
    all(queries), all(keys);
}

}  // namespace longspan::host
