// SPDX-License-Identifier: Apache-2.0
//
// A row-major matrix that somebody else owns. Every activation is one: [tokens, width], rows `stride` elements apart, so
// that the query, key and value columns of one projection are three views of the same memory.
#pragma once

#include <type_traits>

#include <longspan/core/types.hpp>

namespace longspan {

/// A non-owning [rows, columns] matrix, row-major, `stride` ≥ columns elements from one row to the next.
template <class T>
struct matrix_view {
    T* data = nullptr;
    index rows = 0;
    index columns = 0;
    index stride = 0;

    constexpr matrix_view() = default;
    LONGSPAN_HD constexpr matrix_view(T* data_, index rows_, index columns_, index stride_)
        : data(data_), rows(rows_), columns(columns_), stride(stride_) {}
    LONGSPAN_HD constexpr matrix_view(T* data_, index rows_, index columns_)
        : matrix_view(data_, rows_, columns_, columns_) {}

    /// A view of constants from a view of variables.
    template <class U>
        requires std::is_same_v<T, const U>
    LONGSPAN_HD constexpr matrix_view(matrix_view<U> other)
        : data(other.data), rows(other.rows), columns(other.columns), stride(other.stride) {}

    LONGSPAN_HD [[nodiscard]] constexpr T* row(index r) const { return data + r * stride; }
    LONGSPAN_HD [[nodiscard]] constexpr T& operator()(index r, index c) const { return data[r * stride + c]; }
    LONGSPAN_HD [[nodiscard]] constexpr index size() const { return rows * columns; }

    /// Rows [begin, begin + count).
    LONGSPAN_HD [[nodiscard]] constexpr matrix_view row_range(index begin, index count) const {
        return {data + begin * stride, count, columns, stride};
    }
    /// Columns [begin, begin + count).
    LONGSPAN_HD [[nodiscard]] constexpr matrix_view column_range(index begin, index count) const {
        return {data + begin, rows, count, stride};
    }
};

}  // namespace longspan
