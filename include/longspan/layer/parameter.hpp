// SPDX-License-Identifier: Apache-2.0
//
// Parameters as a table: each layer names its own, with shape, first values, whether they decay, and the axis along which a
// tensor-parallel run would cut them. A block's tables laid end to end make a bucket: contiguous, each tensor starting at a
// multiple of 128 elements, so that a bucket is one launch, one reduction, one run of bytes in a file, and names are views.
#pragma once

#include <array>
#include <cstddef>
#include <string_view>

#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/memory/tensors.hpp>

namespace longspan {

/// How a parameter starts.
enum class initial : unsigned char {
    zeros,
    ones,
    normal  ///< mean 0, deviation `parameter::deviation`
};

/// The axis along which tensor parallelism cuts a parameter.
enum class shard : unsigned char { none, row, column, vocabulary };

/// A parameter of a layer: [rows, columns], row-major; a projection from `in` to `out` is [out, in].
struct parameter {
    const char* name = "";
    index rows = 1;
    index columns = 0;  ///< 0: the option that needs it is off
    initial start = initial::zeros;
    double deviation = 0;
    bool decays = false;  ///< matrices decay; norms, biases and embeddings do not unless asked
    shard cut = shard::none;

    [[nodiscard]] constexpr index size() const { return rows * columns; }
};

/// Elements from one tensor's start to the next: 512 bytes of float.
inline constexpr index parameter_alignment = 128;

/// Elements of a table, with padding.
template <class Table>
[[nodiscard]] constexpr index table_size() {
    index total = 0;
    for (const parameter& p : Table::list) total += round_up(p.size(), parameter_alignment);
    return total;
}

/// Elements of a table without padding: what a model's parameter count means.
template <class Table>
[[nodiscard]] constexpr index table_parameters() {
    index total = 0;
    for (const parameter& p : Table::list) total += p.size();
    return total;
}

/// Views of a table's parameters (or of their gradients) in memory that starts at `base`.
template <class Table, class T>
class parameters {
public:
    constexpr explicit parameters(T* base) : base_(base) {}

    /// The parameter of that name, [rows, columns]; without data when the option that needs it is off.
    template <fixed_string Name>
    [[nodiscard]] constexpr matrix_view<T> get() const {
        constexpr std::size_t i = position_in<Table, Name>();
        constexpr parameter p = Table::list[i];
        if constexpr (p.size() == 0) return {};
        else return matrix_view<T>(base_ + offset(i), p.rows, p.columns);
    }

    /// Elements from `base` to parameter i.
    [[nodiscard]] static constexpr index offset(std::size_t i) {
        index at = 0;
        for (std::size_t j = 0; j < i; ++j) at += round_up(Table::list[j].size(), parameter_alignment);
        return at;
    }

private:
    T* base_;
};

}  // namespace longspan
