// SPDX-License-Identifier: Apache-2.0
//
// Positions that are added: a learned table, the fixed sinusoidal one, and ALiBi's slopes (which attention adds to scores).
// Positions count from the start of each document. Allocates nothing; deterministic.
#pragma once

#include <cmath>
#include <cstdint>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/embedding.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

namespace detail {

inline void expect_positions_inside(const char* op, const piece_table& pieces, index rows) {
    for (index i = 0; i < pieces.count(); ++i) {
        // Padding is one long piece of its own, and its positions wrap.
        if (pieces.length(i) == 0 || pieces[i].document < 0) continue;
        const index last = pieces[i].position + pieces.length(i) - 1;
        expects(last < rows, [&] {
            return std::string(op) + ": piece " + std::to_string(i) + " reaches position " + std::to_string(last) +
                   ", and the table has " + std::to_string(rows) + " rows";
        });
    }
}

}  // namespace detail

/// x[t, c] += table[position of t, c]. Throws bad_argument when a document's position is beyond the table.
template <storage W, storage_format X>
void add_learned_positions(const piece_table& pieces, matrix_view<W> table, matrix_view<X> x) {
    using T = compute_t<W>;
    detail::expect_same_extent("add_learned_positions", "table.columns", table.columns, "x.columns", x.columns);
    detail::expect_positions_inside("add_learned_positions", pieces, table.rows);
    parallel_for(pieces.count(), [&](index i) {
        for (index t = pieces.begin(i); t < pieces.end(i); ++t) {
            const auto* const row = table.row((pieces[i].position + t - pieces.begin(i)) % table.rows);
            detail::for_packs<T>(x.columns, [&](index at, index count) {
                detail::write(detail::read<T>(x.row(t), at, count) + detail::read<T>(row, at, count), x.row(t), at, count);
            });
        }
    });
}

/// dtable[position of t, c] += dx[t, c], pieces in order.
template <storage DX, storage_format DW>
void learned_positions_backward(const piece_table& pieces, matrix_view<DX> dx, matrix_view<DW> dtable) {
    using T = compute_t<DX>;
    detail::expect_same_extent("learned_positions_backward", "dtable.columns", dtable.columns, "dx.columns", dx.columns);
    detail::expect_positions_inside("learned_positions_backward", pieces, dtable.rows);
    constexpr index stripe = 4 * pack<T>::lanes;  // columns of a task
    parallel_for(ceil_div(dx.columns, stripe), [&](index task) {
        const index from = task * stripe, width = dx.columns - from < stripe ? dx.columns - from : stripe;
        for (index i = 0; i < pieces.count(); ++i) {
            for (index t = pieces.begin(i); t < pieces.end(i); ++t) {
                auto* const to = dtable.row((pieces[i].position + t - pieces.begin(i)) % dtable.rows) + from;
                detail::for_packs<T>(width, [&](index at, index count) {
                    detail::write(detail::read<T>(to, at, count) + detail::read<T>(dx.row(t) + from, at, count), to, at, count);
                });
            }
        }
    });
}

/// x[t, 2j] += sin(p / 10000^(2j/c)), x[t, 2j + 1] += cos(…), p the position of t; computed in double (arXiv:1706.03762).
template <storage_format X>
void add_sinusoidal_positions(const piece_table& pieces, matrix_view<X> x) {
    using T = compute_t<X>;
    parallel_for(ceil_div(x.rows, 64), [&](index task) {
        index i = 0;
        for (index t = task * 64; t < x.rows && t < (task + 1) * 64; ++t) {
            while (i + 1 < pieces.count() && pieces.end(i) <= t) ++i;
            const auto position = static_cast<double>(pieces[i].position + t - pieces.begin(i));
            for (index c = 0; c < x.columns; ++c) {
                const double angle = position * std::pow(10000.0, -static_cast<double>(c - c % 2) / static_cast<double>(x.columns));
                const double wave = c % 2 == 0 ? std::sin(angle) : std::cos(angle);
                x(t, c) = from_compute<X>(to_compute(x(t, c)) + static_cast<T>(wave));
            }
        }
    });
}

/// The slope of head h of `heads`: 2^(−8(h+1)/n) for a power of two n; between powers, the odd ones of twice as many
/// (arXiv:2108.12409, appendix A). A score loses slope · distance.
[[nodiscard]] inline double alibi_slope(index head, index heads) {
    index power = 1;
    while (2 * power <= heads) power *= 2;
    const auto exponent = [](index h, index n) { return std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(n)); };
    return head < power ? exponent(head, power) : exponent(2 * (head - power), 2 * power);
}

}  // namespace longspan::host
