// SPDX-License-Identifier: Apache-2.0
//
// Positions that are added: a learned table, the fixed sinusoidal one, and ALiBi's slopes (which attention adds to scores).
// Positions count from the start of each document, in the batch's table of pieces; padding (a piece of a negative document) may
// be longer than a learned table, and wraps. Each op reads and writes its operands once. Allocates nothing. Deterministic.
// A mistake is a bad_argument, before anything is written.
#pragma once

#include <concepts>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/detail/turns.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// x[t, c] += table[position of t, c].
template <storage W, storage_format X>
void add_learned_positions(const piece_table& pieces, matrix_view<W> table, matrix_view<X> x);

/// dtable[position of t, c] += dx[t, c]: each row of the table sums its tokens in the order of the batch.
template <storage DX, std::floating_point DW>
void learned_positions_backward(const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> dtable);

/// x[t, 2j] += sin(p / 10000^(2j/c)), x[t, 2j + 1] += cos(…), p the position of t (arXiv:1706.03762). The waves are right to
/// 2·10⁻¹⁶ at any position, the sum is rounded once; what is added is a function of the position alone.
template <storage_format X>
void add_sinusoidal_positions(const piece_table& pieces, matrix_view<X> x);

namespace detail {

inline constexpr index position_rows = 64;  // tokens of a task, rows of the learned table of a task of its backward

inline void expect_positions_inside(const char* op, const piece_table& pieces, index rows) {
    for (index i = 0; i < pieces.count(); ++i) {
        if (pieces.length(i) == 0) continue;
        const bool padding = pieces[i].document < 0;
        const index last = padding ? 0 : pieces[i].position + pieces.length(i) - 1;
        expects(pieces[i].position >= 0 && last < rows, [&] {
            return std::string(op) + ": piece " + std::to_string(i) + " holds positions " + std::to_string(pieces[i].position) + " to " +
                   std::to_string(last) + ", and the table has " + std::to_string(rows) + " rows";
        });
    }
}

}  // namespace detail

template <storage W, storage_format X>
void add_learned_positions(const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) {
    using T = compute_t<W>;
    static_assert(detail::one_arithmetic<W, X>, "add_learned_positions: table and x are both double, or neither is");
    detail::expect_same_extent("add_learned_positions", "table.columns", table.columns, "x.columns", x.columns);
    detail::expect_pieces_cover("add_learned_positions", pieces, x.rows);
    detail::expect_positions_inside("add_learned_positions", pieces, table.rows);
    detail::for_row_blocks(x.rows, detail::position_rows, [&](index begin, index end) {
        index position[detail::position_rows];
        detail::positions_of(pieces, begin, end, position);
        for (index t = begin; t < end; ++t) {
            const auto* const row = table.row(position[t - begin] % table.rows);
            detail::for_packs<T>(x.columns, [&](index at, index count) {
                detail::write(detail::read<T>(x.row(t), at, count) + detail::read<T>(row, at, count), x.row(t), at, count);
            });
        }
    });
}

template <storage DX, std::floating_point DW>
void learned_positions_backward(const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> dtable) {
    using T = compute_t<DX>;
    static_assert(detail::one_arithmetic<DX, DW>, "learned_positions_backward: dx and dtable are both double, or neither is");
    detail::expect_same_extent("learned_positions_backward", "dtable.columns", dtable.columns, "dx.columns", dx.columns);
    detail::expect_pieces_cover("learned_positions_backward", pieces, dx.rows);
    detail::expect_positions_inside("learned_positions_backward", pieces, dtable.rows);
    // A task owns 64 rows of the table and 8 packs of columns, and takes the tokens at these positions piece by piece.
    constexpr index stripe = 8 * pack<T>::lanes;
    const index stripes = ceil_div(dx.columns, stripe);
    parallel_for(stripes * ceil_div(dtable.rows, detail::position_rows), [&](index task) {
        const index column = task % stripes * stripe, width = dx.columns - column < stripe ? dx.columns - column : stripe;
        const index first = task / stripes * detail::position_rows;
        const index last = first + detail::position_rows < dtable.rows ? first + detail::position_rows : dtable.rows;
        for (index i = 0; i < pieces.count(); ++i) {
            // Tokens of the piece before its end, in rounds of the table: one round, padding apart.
            for (index round = pieces.begin(i) - pieces[i].position; round + first < pieces.end(i); round += dtable.rows) {
                const index from = round + first < pieces.begin(i) ? pieces.begin(i) : round + first;
                const index to = round + last < pieces.end(i) ? round + last : pieces.end(i);
                for (index t = from; t < to; ++t) {
                    DW* const row = dtable.row(t - round) + column;
                    detail::for_packs<T>(width, [&](index at, index count) {
                        detail::write(detail::read<T>(row, at, count) + detail::read<T>(dx.row(t) + column, at, count), row, at, count);
                    });
                }
            }
        }
    });
}

template <storage_format X>
void add_sinusoidal_positions(const piece_table& pieces, matrix_view<X> x) {
    using T = compute_t<X>;
    detail::expect_pieces_cover("add_sinusoidal_positions", pieces, x.rows);
    if (x.columns == 0) return;
    detail::for_each_wave(
        pieces, ceil_div(x.columns, 2), detail::turns_of_pairs(10000, x.columns),
        [&](index t, index j, index pairs, const detail::cosine_and_sine& w) __attribute__((always_inline)) {
            constexpr index lanes = pack<double>::lanes;
            T cosine[lanes], sine[lanes], added[2 * lanes];
            detail::write_lanes(w.cosine, cosine, lanes);
            detail::write_lanes(w.sine, sine, lanes);
            for (index l = 0; l < lanes; ++l) added[2 * l] = sine[l], added[2 * l + 1] = cosine[l];
            const index left = x.columns - 2 * j;  // an odd width ends with a sine
            detail::for_packs<T>(2 * pairs < left ? 2 * pairs : left, [&](index at, index count) {
                X* const to = x.row(t) + 2 * j;
                detail::write(detail::read<T>(to, at, count) + pack<T>::load(added + at), to, at, count);
            });
        });
}

}  // namespace longspan::host
