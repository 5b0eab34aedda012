// SPDX-License-Identifier: Apache-2.0
//
// How an op walks rows of any format: by packs, the last one partly filled, and by tasks of a fixed number of rows. A lane that a
// row does not fill goes through the same instructions as the others and is not written.
#pragma once

#include <string>
#include <type_traits>

#include <longspan/core/error.hpp>
#include <longspan/core/piece.hpp>
#include <longspan/core/view.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host::detail {

/// Calls f(column, lanes in use) for the packs of `columns`.
template <class T, class F>
LONGSPAN_INLINE void for_packs(index columns, F&& f) {
    index at = 0;
    for (; at + pack<T>::lanes <= columns; at += pack<T>::lanes) f(at, index{pack<T>::lanes});
    if (at < columns) f(at, columns - at);
}
/// The first `count` of a pack's lanes, 0 in the others.
template <class T, class S>
[[nodiscard]] LONGSPAN_INLINE pack<T> read(const S* from, index at, index count) {
    return count == pack<T>::lanes ? pack<T>::load(from + at) : pack<T>::load(from + at, count);
}
template <class T, class S>
LONGSPAN_INLINE void write(pack<T> value, S* to, index at, index count) {
    if (count == pack<T>::lanes) value.store(to + at);
    else value.store(to + at, count);
}

/// Calls f(begin, end) for tasks of `each` rows, on as many threads as there are.
template <class F>
void for_row_blocks(index rows, index each, F&& f) {
    parallel_for(ceil_div(rows, each), [&](index task) {
        const index begin = task * each;
        f(begin, begin + each < rows ? begin + each : rows);
    });
}

/// Whether values of all these formats are computed in one type: all are double, or none is.
template <class First, class... Rest>
inline constexpr bool one_arithmetic = (std::is_same_v<compute_t<First>, compute_t<Rest>> && ...);

/// Fills out[0 .. end - begin) with the positions, in their documents, of tokens [begin, end).
inline void positions_of(const piece_table& pieces, index begin, index end, index* out) {
    index low = 0, high = pieces.count();  // the last piece that begins at or before a token holds it: empty ones end there
    while (high - low > 1) {
        const index middle = low + (high - low) / 2;
        (pieces.begin(middle) <= begin ? low : high) = middle;
    }
    for (index t = begin; t < end; ++t) {
        while (low + 1 < pieces.count() && pieces.begin(low + 1) <= t) ++low;
        *out++ = pieces[low].position + (t - pieces.begin(low));
    }
}

inline void expect_pieces_cover(const char* op, const piece_table& pieces, index rows) {
    expects(pieces.tokens == rows && (rows == 0 || (pieces.count() > 0 && pieces.begin(0) == 0)), [&] {
        return std::string(op) + ": expected pieces that cover the " + std::to_string(rows) + " rows, got " +
               std::to_string(pieces.count()) + " pieces of " + std::to_string(pieces.tokens) + " tokens";
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
