// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions: the pair (x[j], x[j + d/2]) of every head turns by the angle position · base^(−2j/d). Half-split pairing, as
// in GPT-NeoX and Hugging Face's Llama. The angles of a batch are a table [t, d/2], made once a step and shared by all layers.
//
// The table is right to half a unit in the last place of a float at position 4,000,000 (detail/turns.hpp), and a function of the
// position alone: a document's angles do not depend on the batch around it. The gradient of a turn is the turn back.
//
// Memory: the table, 4·d bytes a token in floats. The turn reads and writes x once. Allocates nothing. Deterministic.
// Throws bad_argument where shapes do not fit. Reference: Su et al., "RoFormer", arXiv:2104.09864.
#pragma once

#include <concepts>

#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/detail/turns.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// The turn, or the turn back.
enum class direction : bool { forward, backward };

/// cosines[t, d/2] and sines[t, d/2] of the angles at each token's position in its document; `head` is d, `base` usually 10000.
template <std::floating_point S>
void rotary_table(const piece_table& pieces, index head, double base, matrix_view<S> cosines, matrix_view<S> sines);

/// y[t, heads·d] = x turned by the table; y may lie on x. Each value is rounded to its format once.
template <storage X, storage S, storage_format Y>
void rotary(matrix_view<X> x, index head, matrix_view<S> cosines, matrix_view<S> sines, matrix_view<Y> y, direction turn);

template <std::floating_point S>
void rotary_table(const piece_table& pieces, index head, double base, matrix_view<S> cosines, matrix_view<S> sines) {
    detail::expect_same_extent("rotary_table", "2 · cosines.columns", 2 * cosines.columns, "head", head);
    detail::expect_same_shape("rotary_table", "cosines and sines", cosines, sines);
    detail::expect_pieces_cover("rotary_table", pieces, cosines.rows);
    expects(base > 0, [&] { return "rotary_table: expected a base above 0, got " + std::to_string(base); });
    if (head == 0) return;
    detail::for_each_wave(pieces, head / 2, detail::turns_of_pairs(base, head),
                          [&](index t, index j, index count, const detail::cosine_and_sine& w) __attribute__((always_inline)) {
                              detail::write_lanes(w.cosine, cosines.row(t) + j, count);
                              detail::write_lanes(w.sine, sines.row(t) + j, count);
                          });
}

template <storage X, storage S, storage_format Y>
void rotary(matrix_view<X> x, index head, matrix_view<S> cosines, matrix_view<S> sines, matrix_view<Y> y, direction turn) {
    using T = compute_t<X>;
    using vector = pack<T>;
    static_assert(detail::one_arithmetic<X, S, Y>, "rotary: x, the table and y are all double, or none is");
    detail::expect_same_shape("rotary", "x and y", x, y);
    detail::expect_whole_heads("rotary", x.columns, head);
    detail::expect_same_extent("rotary", "2 · cosines.columns", 2 * cosines.columns, "head", head);
    detail::expect_same_extent("rotary", "cosines.rows", cosines.rows, "x.rows", x.rows);
    detail::expect_same_shape("rotary", "cosines and sines", cosines, sines);
    constexpr index each = 16;  // rows of a task
    const index half = head / 2;
    detail::for_row_blocks(x.rows, each, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            detail::for_packs<T>(half, [&](index at, index count) {
                const vector c = detail::read<T>(cosines.row(t), at, count);
                vector s = detail::read<T>(sines.row(t), at, count);
                if (turn == direction::backward) s = -s;
                for (index h = 0; h < x.columns; h += head) {
                    const vector a = detail::read<T>(x.row(t) + h, at, count), b = detail::read<T>(x.row(t) + h + half, at, count);
                    detail::write(fma(a, c, -(b * s)), y.row(t) + h, at, count);
                    detail::write(fma(b, c, a * s), y.row(t) + h + half, at, count);
                }
            });
        }
    });
}

}  // namespace longspan::host
