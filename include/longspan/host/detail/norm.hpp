// SPDX-License-Identifier: Apache-2.0
//
// The bodies of host/norm.hpp. All three norms are one computation over groups of `size` columns, with the mean of the group
// (0 for RMS) and its reciprocal deviation.
#pragma once

#include <longspan/host/norm.hpp>

namespace longspan::host::detail {

inline constexpr index norm_rows = 16;                 // rows of a task, and of one partial sum of a weight's gradient
inline constexpr index norm_panels = 64;               // partial sums at a time, at most: the error grows with 16 + 64 + t / 1024
inline constexpr bytes norm_partial_bytes = 128 * KiB; // of them, on the caller's stack
inline constexpr index norm_block = 128;               // rows summed at a time for rows too wide for that

/// Groups of a row: where they lie and how many numbers each has.
struct norm_groups {
    index size, count;
    constexpr norm_groups(index columns, index size_) : size(size_ > 0 ? size_ : 1), count(columns / size) {}
};

/// weight[at …], or ones.
template <class T, class W>
[[nodiscard]] LONGSPAN_INLINE pack<T> read_weight(const W* weight, index at, index count) {
    return weight ? read<T>(weight, at, count) : pack<T>::broadcast(1);
}

/// The first `count` lanes, 0 in the others.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> first_lanes(pack<T> value, index count) {
    constexpr T lane[] = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15};
    return select(pack<T>::load(lane) < pack<T>::broadcast(static_cast<T>(count)), value, pack<T>::zero());
}

template <bool Centred, class X, class W, class Y, class S>
void norm_forward(matrix_view<X> x, const W* weight, const W* bias, norm_groups groups, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
    using T = compute_t<X>;
    using vector = pack<T>;
    static_assert(one_arithmetic<X, W, Y>, "a norm's x, weight and y are all double, or none is");
    static_assert(sizeof(S) >= sizeof(T), "a norm's statistics are double where its x is");
    const index size = groups.size;
    for_row_blocks(x.rows, norm_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            for (index g = 0; g < groups.count; ++g) {
                const auto* const from = x.row(t) + g * size;
                T centre = 0;
                if constexpr (Centred) {
                    vector total = vector::zero();
                    for_packs<T>(size, [&](index at, index count) { total += read<T>(from, at, count); });
                    centre = sum(total) / static_cast<T>(size);
                    mean[t * groups.count + g] = centre;
                }
                const vector middle = vector::broadcast(centre);
                vector squares = vector::zero();
                for_packs<T>(size, [&](index at, index count) {
                    vector d = read<T>(from, at, count);
                    if constexpr (Centred) d = first_lanes(d - middle, count);
                    squares = fma(d, d, squares);
                });
                const T r = T(1) / std::sqrt(sum(squares) / static_cast<T>(size) + static_cast<T>(epsilon));
                rstd[t * groups.count + g] = r;
                const vector scale = vector::broadcast(r);
                auto* const to = y.row(t) + g * size;
                for_packs<T>(size, [&](index at, index count) {
                    vector d = read<T>(from, at, count);
                    if constexpr (Centred) d -= middle;
                    d = d * scale;
                    const vector w = read_weight<T>(weight, at, count);
                    if (Centred && bias) write(fma(d, w, read<T>(bias, at, count)), to, at, count);
                    else write(d * w, to, at, count);
                });
            }
        }
    });
}

/// What backward reads and where it writes: one row after another.
template <bool Centred, class DY, class X, class W, class S, class DX>
struct norm_gradient {
    using T = compute_t<X>;
    using vector = pack<T>;
    matrix_view<DY> dy;
    matrix_view<X> x;
    const W* weight;
    const S* mean;
    const S* rstd;
    matrix_view<DX> dx;
    norm_groups groups;
    bool add;

    /// dx of rows [begin, end). Partial: dw[size] and db[size] (whole packs) take these rows' share of the parameters' gradients.
    template <bool Partial>
    void rows(index begin, index end, [[maybe_unused]] T* dw, [[maybe_unused]] T* db) const {
        const index size = groups.size;
        for (index t = begin; t < end; ++t) {
            for (index g = 0; g < groups.count; ++g) {
                const auto* const in = x.row(t) + g * size;
                const auto* const up = dy.row(t) + g * size;
                const vector scale = vector::broadcast(static_cast<T>(rstd[t * groups.count + g]));
                const vector middle = vector::broadcast(Centred ? static_cast<T>(mean[t * groups.count + g]) : T(0));
                const auto unit = [&](index at, index count) __attribute__((always_inline)) {
                    vector d = read<T>(in, at, count);
                    if constexpr (Centred) d -= middle;
                    return d * scale;
                };
                vector along = vector::zero(), level = vector::zero();  // Σ g·x̂ and Σ g
                for_packs<T>(size, [&](index at, index count) {
                    const vector d = read<T>(up, at, count), u = unit(at, count);
                    const vector weighted = d * read_weight<T>(weight, at, count);
                    along = fma(weighted, u, along);
                    if constexpr (Centred) level += weighted;
                    if constexpr (Partial) fma(d, u, vector::load(dw + at)).store(dw + at);
                    if constexpr (Partial && Centred) (vector::load(db + at) + d).store(db + at);
                });
                const vector share = vector::broadcast(-sum(along) / static_cast<T>(size));
                const vector shift = vector::broadcast(Centred ? -sum(level) / static_cast<T>(size) : T(0));
                auto* const to = dx.row(t) + g * size;
                for_packs<T>(size, [&](index at, index count) {
                    vector d = read<T>(up, at, count) * read_weight<T>(weight, at, count);
                    if constexpr (Centred) d += shift;
                    const vector inside = fma(unit(at, count), share, d);
                    write(add ? fma(inside, scale, read<T>(to, at, count)) : inside * scale, to, at, count);
                });
            }
        }
    }

    /// dw and db of rows too wide to keep partial sums of: a task owns a pack of columns and walks all rows.
    template <class DW>
    void stripes(DW* dw, DW* db) const {
        parallel_for(ceil_div(groups.size, vector::lanes), [&](index task) {
            const index at = task * vector::lanes, left = groups.size - at, count = left < vector::lanes ? left : index{vector::lanes};
            vector total = vector::zero(), total_bias = vector::zero();
            for (index t = 0; t < x.rows;) {
                const index end = t + norm_block < x.rows ? t + norm_block : x.rows;
                vector block = vector::zero(), block_bias = vector::zero();
                for (; t < end; ++t) {
                    for (index g = 0; g < groups.count; ++g) {
                        vector u = read<T>(x.row(t) + g * groups.size, at, count);
                        if constexpr (Centred) u -= vector::broadcast(static_cast<T>(mean[t * groups.count + g]));
                        const vector d = read<T>(dy.row(t) + g * groups.size, at, count);
                        block = fma(d, u * vector::broadcast(static_cast<T>(rstd[t * groups.count + g])), block);
                        if constexpr (Centred) block_bias += d;
                    }
                }
                total += block;
                if constexpr (Centred) total_bias += block_bias;
            }
            if (dw) write(total + read<T>(dw, at, count), dw, at, count);
            if (Centred && db) write(total_bias + read<T>(db, at, count), db, at, count);
        });
    }

    /// dx of all rows, dw += and db += their sums.
    template <class DW>
    void all(DW* dw, DW* db) const {
        constexpr index room = norm_partial_bytes / static_cast<bytes>(sizeof(T));
        const index padded = round_up(groups.size, vector::lanes), each = (Centred ? 2 : 1) * padded;
        const index panels = room / each < norm_panels ? room / each : norm_panels;
        const bool wanted = dw || (Centred && db), wide = panels < 4;  // fewer panels would leave threads without work
        if (wanted && wide) stripes(dw, db);                           // before dx, which may lie on dy
        if (!wanted || wide) {
            for_row_blocks(x.rows, norm_rows, [&](index begin, index end) { rows<false>(begin, end, nullptr, nullptr); });
            return;
        }
        alignas(64) T partial[room];
        for (index first = 0; first < x.rows; first += panels * norm_rows) {
            const index left = x.rows - first, count = left < panels * norm_rows ? left : panels * norm_rows;
            for_row_blocks(count, norm_rows, [&](index begin, index end) {
                T* const own = partial + begin / norm_rows * each;
                for (index i = 0; i < each; i += vector::lanes) vector::zero().store(own + i);
                rows<true>(first + begin, first + end, own, own + padded);
            });
            const auto gather = [&](DW* to, index offset) {
                for_packs<T>(groups.size, [&](index at, index lanes) {
                    vector total = vector::zero();
                    for (index p = 0; p < ceil_div(count, norm_rows); ++p) total += vector::load(partial + p * each + offset + at);
                    write(read<T>(to, at, lanes) + total, to, at, lanes);
                });
            };
            if (dw) gather(dw, 0);
            if (Centred && db) gather(db, padded);
        }
    }
};

template <bool Centred, class DY, class X, class W, class S, class DX, class DW>
void norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index size, const S* mean, const S* rstd, matrix_view<DX> dx,
                   accumulate add, DW* dweight, DW* dbias) {
    static_assert(one_arithmetic<DY, X, W, DX, DW>, "a norm's dy, x, weight, dx and dweight are all double, or none is");
    static_assert(sizeof(S) >= sizeof(compute_t<X>), "a norm's statistics are double where its x is");
    const norm_gradient<Centred, DY, X, W, S, DX> gradient{dy, x, weight, mean, rstd, dx, {x.columns, size}, add == accumulate::yes};
    gradient.all(dweight, dbias);
}

}  // namespace longspan::host::detail

namespace longspan::host {

template <stream X, storage_format W, storage_format Y, std::floating_point S>
void rms_norm(matrix_view<X> x, const W* weight, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::expect_same_shape("rms_norm", "x and y", x, y);
    constexpr const W* no_bias = nullptr;
    detail::norm_forward<false>(x, weight, no_bias, {x.columns, x.columns}, epsilon, y, rstd, rstd);
}

template <storage DY, stream X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void rms_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* rstd, matrix_view<DX> dx, accumulate add, DW* dweight) {
    detail::expect_same_shape("rms_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("rms_norm_backward", "dx and x", dx, x);
    constexpr DW* no_bias = nullptr;
    detail::norm_backward<false>(dy, x, weight, x.columns, rstd, rstd, dx, add, dweight, no_bias);
}

template <storage X, storage_format W, storage_format Y, std::floating_point S>
void head_norm(matrix_view<X> x, const W* weight, index head, double epsilon, matrix_view<Y> y, S* rstd) {
    detail::expect_same_shape("head_norm", "x and y", x, y);
    detail::expect_whole_heads("head_norm", x.columns, head);
    constexpr const W* no_bias = nullptr;
    detail::norm_forward<false>(x, weight, no_bias, {x.columns, head}, epsilon, y, rstd, rstd);
}

template <storage DY, storage X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void head_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, index head, const S* rstd, matrix_view<DX> dx, DW* dweight) {
    detail::expect_same_shape("head_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("head_norm_backward", "dx and x", dx, x);
    detail::expect_whole_heads("head_norm_backward", x.columns, head);
    constexpr DW* no_bias = nullptr;
    detail::norm_backward<false>(dy, x, weight, head, rstd, rstd, dx, accumulate::no, dweight, no_bias);
}

template <stream X, storage_format W, storage_format Y, std::floating_point S>
void layer_norm(matrix_view<X> x, const W* weight, const W* bias, double epsilon, matrix_view<Y> y, S* mean, S* rstd) {
    detail::expect_same_shape("layer_norm", "x and y", x, y);
    detail::norm_forward<true>(x, weight, bias, {x.columns, x.columns}, epsilon, y, mean, rstd);
}

template <storage DY, stream X, storage_format W, std::floating_point S, storage_format DX, std::floating_point DW>
void layer_norm_backward(matrix_view<DY> dy, matrix_view<X> x, const W* weight, const S* mean, const S* rstd, matrix_view<DX> dx,
                         accumulate add, DW* dweight, DW* dbias) {
    detail::expect_same_shape("layer_norm_backward", "dy and x", dy, x);
    detail::expect_same_shape("layer_norm_backward", "dx and x", dx, x);
    detail::norm_backward<true>(dy, x, weight, x.columns, mean, rstd, dx, add, dweight, dbias);
}

}  // namespace longspan::host
