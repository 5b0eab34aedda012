// SPDX-License-Identifier: Apache-2.0
//
// The bodies of host/norm.hpp. All three norms are one computation over groups of `size` columns, with the mean of the group
// (0 for RMS) and its reciprocal deviation.
#pragma once

#include <longspan/host/norm.hpp>

namespace longspan::host::detail {

inline constexpr index norm_rows = 16;     // rows a task: 16 of width 768 are 48 KiB, a first-level cache
inline constexpr index norm_block = 128;   // rows summed before a block joins the total: the error grows with 128 + rows / 128

/// Calls f(column, lanes in use) for the packs of `columns`.
template <class T, class F>
LONGSPAN_INLINE void for_packs(index columns, F&& f) {
    index at = 0;
    for (; at + pack<T>::lanes <= columns; at += pack<T>::lanes) f(at, index{pack<T>::lanes});
    if (at < columns) f(at, columns - at);
}
template <class T, class S>
[[nodiscard]] LONGSPAN_INLINE pack<T> read(const S* from, index at, index count) {
    return count == pack<T>::lanes ? pack<T>::load(from + at) : pack<T>::load(from + at, count);
}
template <class T, class S>
LONGSPAN_INLINE void write(pack<T> value, S* to, index at, index count) {
    if (count == pack<T>::lanes) value.store(to + at);
    else value.store(to + at, count);
}

template <bool Centred, class X, class W, class Y, class S>
void norm_forward(matrix_view<X> x, const W* weight, const W* bias, index size, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
    using T = compute_t<X>;
    using vector = pack<T>;
    const index groups = x.columns / size;
    parallel_for(ceil_div(x.rows, norm_rows), [&](index task) {
        for (index t = task * norm_rows; t < x.rows && t < (task + 1) * norm_rows; ++t) {
            for (index g = 0; g < groups; ++g) {
                const auto* const from = x.row(t) + g * size;
                T centre = 0;
                if constexpr (Centred) {
                    vector total = vector::zero();
                    for_packs<T>(size, [&](index at, index count) { total += read<T>(from, at, count); });
                    centre = sum(total) / static_cast<T>(size);
                    mean[t * groups + g] = static_cast<S>(centre);
                }
                const vector middle = vector::broadcast(centre);
                vector squares = vector::zero();
                for_packs<T>(size, [&](index at, index count) {
                    vector d = count == vector::lanes ? vector::load(from + at) : vector::load(from + at, count, centre);
                    if constexpr (Centred) d -= middle;
                    squares = fma(d, d, squares);
                });
                const T r = T(1) / std::sqrt(sum(squares) / static_cast<T>(size) + static_cast<T>(epsilon));
                rstd[t * groups + g] = static_cast<S>(r);
                const vector scale = vector::broadcast(r);
                auto* const to = y.row(t) + g * size;
                for_packs<T>(size, [&](index at, index count) {
                    vector d = read<T>(from, at, count);
                    if constexpr (Centred) d -= middle;
                    const vector w = read<T>(weight, at, count);
                    vector out = d * scale;
                    if constexpr (Centred) out = fma(out, w, read<T>(bias, at, count));
                    else out = out * w;
                    write(out, to, at, count);
                });
            }
        }
    });
}

/// dw[c] += Σ dy · x̂ and db[c] += Σ dy over all rows and groups: one task per pack of columns.
template <bool Centred, class DY, class X, class S, class DW>
void norm_weight_gradient(matrix_view<DY> dy, matrix_view<X> x, index size, const S* mean, const S* rstd, DW* dweight, DW* dbias) {
    using T = compute_t<X>;
    using vector = pack<T>;
    const index groups = x.columns / size;
    parallel_for(ceil_div(size, vector::lanes), [&](index task) {
        const index at = task * vector::lanes;
        const index count = size - at < vector::lanes ? size - at : index{vector::lanes};
        vector total = vector::zero(), total_bias = vector::zero();
        for (index t = 0; t < x.rows;) {
            const index end = t + norm_block < x.rows ? t + norm_block : x.rows;
            vector block = vector::zero(), block_bias = vector::zero();
            for (; t < end; ++t) {
                for (index g = 0; g < groups; ++g) {
                    vector d = read<T>(x.row(t) + g * size, at, count);
                    if constexpr (Centred) d -= vector::broadcast(static_cast<T>(mean[t * groups + g]));
                    const vector gradient = read<T>(dy.row(t) + g * size, at, count);
                    block = fma(gradient, d * vector::broadcast(static_cast<T>(rstd[t * groups + g])), block);
                    if constexpr (Centred) block_bias += gradient;
                }
            }
            total += block;
            if constexpr (Centred) total_bias += block_bias;
        }
        write(total + read<T>(dweight, at, count), dweight, at, count);
        if constexpr (Centred) write(total_bias + read<T>(dbias, at, count), dbias, at, count);
    });
}

template <bool Centred, class DY, class X, class W, class S, class DX, class DW>
void norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index size, const S* mean, const S* rstd, matrix_view<DX> dx,
                   accumulate add, DW* dweight, DW* dbias) {
    using T = compute_t<X>;
    using vector = pack<T>;
    const index groups = x.columns / size;
    norm_weight_gradient<Centred>(dy, x, size, mean, rstd, dweight, dbias);  // before dx, which may be dy
    parallel_for(ceil_div(x.rows, norm_rows), [&](index task) {
        for (index t = task * norm_rows; t < x.rows && t < (task + 1) * norm_rows; ++t) {
            for (index g = 0; g < groups; ++g) {
                const auto* const in = x.row(t) + g * size;
                const auto* const gradient = dy.row(t) + g * size;
                const T r = static_cast<T>(rstd[t * groups + g]);
                const vector scale = vector::broadcast(r);
                const vector middle = vector::broadcast(Centred ? static_cast<T>(mean[t * groups + g]) : T(0));
                vector along = vector::zero(), total = vector::zero();  // Σ dy·w·x̂, Σ dy·w
                for_packs<T>(size, [&](index at, index count) {
                    const vector d = read<T>(gradient, at, count) * read<T>(weight, at, count);
                    vector unit = read<T>(in, at, count);
                    if constexpr (Centred) unit -= middle;
                    along = fma(d, unit * scale, along);
                    if constexpr (Centred) total += d;
                });
                const vector share = vector::broadcast(-sum(along) / static_cast<T>(size));
                const vector level = vector::broadcast(Centred ? -sum(total) / static_cast<T>(size) : T(0));
                auto* const to = dx.row(t) + g * size;
                for_packs<T>(size, [&](index at, index count) {
                    vector d = read<T>(gradient, at, count) * read<T>(weight, at, count);
                    vector unit = read<T>(in, at, count);
                    if constexpr (Centred) {
                        unit -= middle;
                        d += level;
                    }
                    const vector inside = fma(unit * scale, share, d);
                    const vector out = add == accumulate::yes ? fma(inside, scale, read<T>(to, at, count)) : inside * scale;
                    write(out, to, at, count);
                });
            }
        }
    });
}

template <class A, class B>
void expect_same_shape(const char* op, const char* names, const matrix_view<A>& a, const matrix_view<B>& b) {
    expects(a.rows == b.rows && a.columns == b.columns, [&] {
        return std::string(op) + ": expected " + names + " to have one shape, got [" + std::to_string(a.rows) + ", " +
               std::to_string(a.columns) + "] and [" + std::to_string(b.rows) + ", " + std::to_string(b.columns) + "]";
    });
}
inline void expect_whole_heads(const char* op, index columns, index head) {
    expects(head > 0 && columns % head == 0, [&] {
        return std::string(op) + ": expected whole heads, got " + std::to_string(columns) + " columns and heads of " + std::to_string(head);
    });
}

}  // namespace longspan::host::detail

namespace longspan::host {

template <storage X, storage_format W, storage_format Y, class S>
void rms_norm(matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::expect_same_shape("rms_norm", "x and y", x, y);
    detail::norm_forward<false>(x, weight, static_cast<const W*>(nullptr), x.columns > 0 ? x.columns : 1, epsilon, y, rstd, rstd);
}

template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, accumulate add, DW* dweight) {
    detail::expect_same_shape("rms_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("rms_norm_backward", "dx and x", dx, x);
    detail::norm_backward<false>(dy, x, weight, x.columns > 0 ? x.columns : 1, rstd, rstd, dx, add, dweight, dweight);
}

template <storage X, storage_format W, storage_format Y, class S>
void head_norm(matrix_view<X> x, const W* weight, index head, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::expect_same_shape("head_norm", "x and y", x, y);
    detail::expect_whole_heads("head_norm", x.columns, head);
    detail::norm_forward<false>(x, weight, static_cast<const W*>(nullptr), head, epsilon, y, rstd, rstd);
}

template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index head, const S* rstd, matrix_view<DX> dx, DW* dweight) {
    detail::expect_same_shape("head_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("head_norm_backward", "dx and x", dx, x);
    detail::expect_whole_heads("head_norm_backward", x.columns, head);
    detail::norm_backward<false>(dy, x, weight, head, rstd, rstd, dx, accumulate::no, dweight, dweight);
}

template <storage X, storage_format W, storage_format Y, class S>
void layer_norm(matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
    detail::expect_same_shape("layer_norm", "x and y", x, y);
    detail::norm_forward<true>(x, weight, bias, x.columns > 0 ? x.columns : 1, epsilon, y, mean, rstd);
}

template <storage DY, storage X, storage_format W, class S, storage_format DX, class DW>
void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         accumulate add, DW* dweight, DW* dbias) {
    detail::expect_same_shape("layer_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("layer_norm_backward", "dx and x", dx, x);
    detail::norm_backward<true>(dy, x, weight, x.columns > 0 ? x.columns : 1, mean, rstd, dx, add, dweight, dbias);
}

}  // namespace longspan::host
