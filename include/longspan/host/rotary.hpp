// SPDX-License-Identifier: Apache-2.0
//
// Rotary positions: the pair (x[j], x[j + d/2]) of every head turns by position · base^(−2j/d). Half-split pairing, as in
// GPT-NeoX and Hugging Face's Llama. The angles of a batch are a table [t, d/2], made once a step and shared by all layers.
//
// Exact at any position: the angle is a product in double of an integer below 2^24 and a frequency, its error 2^-53 of the
// angle, 4·10⁻¹⁰ at position 4,000,000; sine and cosine are taken in double and rounded once. Within a piece, positions are
// walked by 64: sin and cos of p = 64a + b come from two short tables by the addition theorem, in double, and the first of
// each is computed afresh, so an angle is a function of the position alone.
// Memory: the table, 8·d/2 bytes a token in float. Reference: Su et al., "RoFormer", arXiv:2104.09864.
#pragma once

#include <cmath>

#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

enum class direction : bool { forward, backward };

/// cosines[t, d/2] and sines[t, d/2] of the angles at each token's position in its document.
template <class S>
void rotary_table(const piece_table& pieces, index head, double base, matrix_view<S> cosines, matrix_view<S> sines) {
    detail::expect_same_extent("rotary_table", "cosines.rows", cosines.rows, "tokens", pieces.tokens);
    detail::expect_same_extent("rotary_table", "sines.rows", sines.rows, "tokens", pieces.tokens);
    detail::expect_same_extent("rotary_table", "2 · cosines.columns", 2 * cosines.columns, "head", head);
    detail::expect_same_extent("rotary_table", "2 · sines.columns", 2 * sines.columns, "head", head);
    constexpr index stretch = 64;
    // One task per frequency: each needs its 64 small turns once, then two products a token and a sincos every 64.
    parallel_for(head / 2, [&](index j) {
        const double frequency = std::pow(base, -2.0 * static_cast<double>(j) / static_cast<double>(head));
        double small_cos[stretch], small_sin[stretch];
        for (index b = 0; b < stretch; ++b) {
            small_cos[b] = std::cos(static_cast<double>(b) * frequency);
            small_sin[b] = std::sin(static_cast<double>(b) * frequency);
        }
        for (index i = 0; i < pieces.count(); ++i) {
            index known = -1;
            double big_cos = 1, big_sin = 0;
            for (index t = pieces.begin(i); t < pieces.end(i); ++t) {
                const index position = pieces[i].position + t - pieces.begin(i);
                if (position / stretch != known) {
                    known = position / stretch;
                    const double angle = static_cast<double>(known * stretch) * frequency;
                    big_cos = std::cos(angle);
                    big_sin = std::sin(angle);
                }
                const index b = position % stretch;
                cosines(t, j) = static_cast<S>(std::fma(big_cos, small_cos[b], -(big_sin * small_sin[b])));
                sines(t, j) = static_cast<S>(std::fma(big_sin, small_cos[b], big_cos * small_sin[b]));
            }
        }
    });
}

/// y[t, heads·d] = x turned by the table, or turned back; y may be x. Each value is rounded once.
template <storage X, class S, storage_format Y>
void rotary(matrix_view<X> x, index head, matrix_view<S> cosines, matrix_view<S> sines, matrix_view<Y> y, direction turn) {
    using T = compute_t<X>;
    using vector = pack<T>;
    detail::expect_same_shape("rotary", "x and y", x, y);
    detail::expect_whole_heads("rotary", x.columns, head);
    detail::expect_same_extent("rotary", "cosines.rows", cosines.rows, "x.rows", x.rows);
    const index half = head / 2;
    parallel_for(ceil_div(x.rows, 16), [&](index task) {
        for (index t = task * 16; t < x.rows && t < (task + 1) * 16; ++t) {
            for (index h = 0; h < x.columns; h += head) {
                detail::for_packs<T>(half, [&](index at, index count) {
                    const vector c = detail::read<T>(cosines.row(t), at, count);
                    vector s = detail::read<T>(sines.row(t), at, count);
                    if (turn == direction::backward) s = -s;
                    const vector a = detail::read<T>(x.row(t) + h, at, count), b = detail::read<T>(x.row(t) + h + half, at, count);
                    detail::write(fma(a, c, -(b * s)), y.row(t) + h, at, count);
                    detail::write(fma(b, c, a * s), y.row(t) + h + half, at, count);
                });
            }
        }
    });
}

}  // namespace longspan::host
