// SPDX-License-Identifier: Apache-2.0
//
// Rows of a table by token id, x[t] = table[tokens[t]], and the sum of their gradients, dtable[id] += Σ dx[t] over tokens[t] = id.
//
// The backward reads the batch's permutation, token indices sorted by (id, index) (batch/permutation.hpp), so each row's gradient
// is one sum in token order: no atomics, the same bits for any number of threads. Frequent ids sum thousands of rows: 128 at a
// time, then these. Memory-bound: dx once, and once each row of the table that occurs. Allocates nothing. Deterministic.
// What came is checked before anything is written; a mistake is a bad_argument that names the token and its id.
#pragma once

#include <concepts>
#include <cstdint>

#include <longspan/core/view.hpp>
#include <longspan/host/detail/rows.hpp>
#include <longspan/host/gemm.hpp>

namespace longspan::host {

/// x[t, c] = table[tokens[t], c]. Every id is in [0, v).
template <storage W, storage_format X>
void embed(const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x);

/// dtable[tokens[t], c] += dx[t, c], in the order of `sorted` [t].
template <storage DX, std::floating_point DW>
void embedding_backward(matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> dtable);

namespace detail {

inline constexpr index embedding_rows = 64;       // tokens of a task of embed
inline constexpr int embedding_packs = 8;         // a task of the backward owns 8 packs of columns: 512 bytes of each row,
inline constexpr index embedding_places = 512;    // and the ids that first occur within 512 places of the permutation
inline constexpr index embedding_block = 128;     // rows summed at a time

inline void expect_ids(const char* op, const std::int32_t* tokens, index count, index vocabulary) {
    for (index t = 0; t < count; ++t) {
        expects(tokens[t] >= 0 && tokens[t] < vocabulary, [&] {
            return std::string(op) + ": token " + std::to_string(t) + " has the id " + std::to_string(tokens[t]) +
                   ", outside the vocabulary [0, " + std::to_string(vocabulary) + ")";
        });
    }
}

/// Strictly increasing by (id, index), and all of them tokens: then each token is there once.
inline void expect_sorted(const char* op, const std::int32_t* tokens, const std::int32_t* sorted, index count) {
    for (index i = 0; i < count; ++i) {
        expects(sorted[i] >= 0 && sorted[i] < count, [&] {
            return std::string(op) + ": place " + std::to_string(i) + " of the permutation holds " + std::to_string(sorted[i]) +
                   ", expected the index of one of " + std::to_string(count) + " tokens";
        });
        if (i == 0) continue;
        const std::int32_t before = sorted[i - 1], here = sorted[i];
        expects(tokens[before] < tokens[here] || (tokens[before] == tokens[here] && before < here), [&] {
            return std::string(op) + ": expected token indices sorted by (id, index), got token " + std::to_string(here) + " of id " +
                   std::to_string(tokens[here]) + " after token " + std::to_string(before) + " of id " + std::to_string(tokens[before]);
        });
    }
}

/// to += the rows `which` of dx, at `count` lanes of Packs packs (all lanes where Packs > 1).
template <int Packs, class DX, class DW>
LONGSPAN_INLINE void add_rows(matrix_view<DX> dx, index column, const std::int32_t* which, index rows, DW* to, index count) {
    using vector = pack<compute_t<DX>>;
    vector total[Packs];
    for (int p = 0; p < Packs; ++p) total[p] = read<compute_t<DX>>(to, p * vector::lanes, count);
    for (index j = 0; j < rows;) {
        const index stop = j + embedding_block < rows ? j + embedding_block : rows;
        vector block[Packs];
        for (int p = 0; p < Packs; ++p) block[p] = vector::zero();
        for (; j < stop; ++j)
            for (int p = 0; p < Packs; ++p) block[p] += read<compute_t<DX>>(dx.row(which[j]) + column, p * vector::lanes, count);
        for (int p = 0; p < Packs; ++p) total[p] += block[p];
    }
    for (int p = 0; p < Packs; ++p) write(total[p], to, p * vector::lanes, count);
}

}  // namespace detail

template <storage W, storage_format X>
void embed(const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x) {
    using T = compute_t<W>;
    static_assert(detail::one_arithmetic<W, X>, "embed: table and x are both double, or neither is");
    detail::expect_same_extent("embed", "table.columns", table.columns, "x.columns", x.columns);
    detail::expect_ids("embed", tokens, x.rows, table.rows);
    detail::for_row_blocks(x.rows, detail::embedding_rows, [&](index begin, index end) {
        for (index t = begin; t < end; ++t) {
            detail::for_packs<T>(x.columns, [&](index at, index count) {
                detail::write(detail::read<T>(table.row(tokens[t]), at, count), x.row(t), at, count);
            });
        }
    });
}

template <storage DX, std::floating_point DW>
void embedding_backward(matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> dtable) {
    using vector = pack<compute_t<DX>>;
    static_assert(detail::one_arithmetic<DX, DW>, "embedding_backward: dx and dtable are both double, or neither is");
    detail::expect_same_extent("embedding_backward", "dtable.columns", dtable.columns, "dx.columns", dx.columns);
    detail::expect_ids("embedding_backward", tokens, dx.rows, dtable.rows);
    detail::expect_sorted("embedding_backward", tokens, sorted, dx.rows);
    constexpr index stripe = detail::embedding_packs * vector::lanes;
    const index stripes = ceil_div(dx.columns, stripe);
    parallel_for(stripes * ceil_div(dx.rows, detail::embedding_places), [&](index task) {
        const index from = task % stripes * stripe, width = dx.columns - from < stripe ? dx.columns - from : stripe;
        index i = task / stripes * detail::embedding_places;
        const index last = i + detail::embedding_places < dx.rows ? i + detail::embedding_places : dx.rows;
        const auto id = [&](index place) { return tokens[sorted[place]]; };
        while (i > 0 && i < last && id(i) == id(i - 1)) ++i;  // the id that began before belongs to the task before
        while (i < last) {
            index end = i + 1;
            while (end < dx.rows && id(end) == id(i)) ++end;
            DW* const to = dtable.row(id(i)) + from;
            if (width == stripe) {
                detail::add_rows<detail::embedding_packs>(dx, from, sorted + i, end - i, to, vector::lanes);
            } else {
                detail::for_packs<compute_t<DX>>(width, [&](index at, index count) {
                    detail::add_rows<1>(dx, from + at, sorted + i, end - i, to + at, count);
                });
            }
            i = end;
        }
    });
}

}  // namespace longspan::host
