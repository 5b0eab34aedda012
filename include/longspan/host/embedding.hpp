// SPDX-License-Identifier: Apache-2.0
//
// Rows of a table by token id, and the sum of their gradients. The backward reads the batch's permutation, token indices sorted
// by (id, index), so each row's gradient is one sum in token order: no atomics, the same bits for any number of threads.
// Ids outside the table are found before anything is written. Memory-bound; allocates nothing.
#pragma once

#include <cstdint>
#include <cstring>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

/// x[t, c] = table[tokens[t], c]. Throws bad_argument for an id outside [0, v).
template <storage W, storage_format X>
void embed(const std::int32_t* tokens, matrix_view<W> table, matrix_view<X> x) {
    using T = compute_t<W>;
    detail::expect_same_extent("embed", "table.columns", table.columns, "x.columns", x.columns);
    for (index t = 0; t < x.rows; ++t) {
        expects(tokens[t] >= 0 && tokens[t] < table.rows, [&] {
            return "embed: token " + std::to_string(t) + " has the id " + std::to_string(tokens[t]) + ", outside the vocabulary [0, " +
                   std::to_string(table.rows) + ")";
        });
    }
    parallel_for(ceil_div(x.rows, 64), [&](index task) {
        for (index t = task * 64; t < x.rows && t < (task + 1) * 64; ++t) {
            detail::for_packs<T>(x.columns, [&](index at, index count) {
                detail::write(detail::read<T>(table.row(tokens[t]), at, count), x.row(t), at, count);
            });
        }
    });
}

/// dtable[tokens[t], c] += dx[t, c], in the order of `sorted` [t] (batch/permutation.hpp).
template <storage DX, storage_format DW>
void embedding_backward(matrix_view<DX> dx, const std::int32_t* tokens, const std::int32_t* sorted, matrix_view<DW> dtable) {
    using T = compute_t<DX>;
    detail::expect_same_extent("embedding_backward", "dtable.columns", dtable.columns, "dx.columns", dx.columns);
    const index tokens_count = dx.rows;
    // A task owns a stripe of columns: 4 packs, so that a row's stripe is whole cache lines.
    constexpr index stripe = 4 * pack<T>::lanes;
    parallel_for(ceil_div(dx.columns, stripe), [&](index task) {
        const index from = task * stripe, width = dx.columns - from < stripe ? dx.columns - from : stripe;
        for (index i = 0; i < tokens_count;) {
            const std::int32_t id = tokens[sorted[i]];
            index end = i + 1;
            while (end < tokens_count && tokens[sorted[end]] == id) ++end;
            auto* const to = dtable.row(id) + from;
            detail::for_packs<T>(width, [&](index at, index count) {
                pack<T> total = detail::read<T>(to, at, count);
                // Blocks of 128 first: frequent ids sum thousands of rows.
                for (index j = i; j < end;) {
                    const index stop = j + 128 < end ? j + 128 : end;
                    pack<T> block = pack<T>::zero();
                    for (; j < stop; ++j) block += detail::read<T>(dx.row(sorted[j]) + from, at, count);
                    total += block;
                }
                detail::write(total, to, at, count);
            });
            i = end;
        }
    });
}

}  // namespace longspan::host
