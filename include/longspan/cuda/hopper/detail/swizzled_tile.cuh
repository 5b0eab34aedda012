// SPDX-License-Identifier: Apache-2.0
//
// A tile of two-byte elements as the copy engine writes it and wgmma reads it: panels of 64 columns, a panel's rows 128 bytes
// apart, the 16-byte units of row r exchanged by r mod 8 ("128-byte swizzle"). A tile begins at a multiple of 1024 bytes.
//
// A descriptor names a tile to wgmma: address, leading and stride offsets in units of 16 bytes, and the swizzle. Products run along
// columns ("rows" operands: K-major) or along rows ("columns" operands: MN-major). Reference: PTX ISA, "Matrix descriptor".
#pragma once

#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan::cuda::hopper::detail {

template <int Rows, int Columns>
struct swizzled_tile {
    static_assert(Rows % 8 == 0 && Columns % 64 == 0, "swizzled_tile: whole groups of 8 rows and panels of 64 columns");
    static constexpr int rows = Rows, columns = Columns, panel = Rows * 128, size = panel * (Columns / 64);

    std::uint32_t base;

    /// Byte offset of an element.
    LONGSPAN_HD static constexpr std::uint32_t offset(int row, int column) {
        return static_cast<std::uint32_t>(column / 64 * panel + row * 128 + (((column % 64 / 8) ^ (row % 8)) * 16) + column % 8 * 2);
    }
    LONGSPAN_HD static constexpr std::uint64_t descriptor(std::uint32_t address, int leading) {
        return (std::uint64_t{1} << 62) | (std::uint64_t{1024 >> 4} << 32) | (static_cast<std::uint64_t>(leading >> 4) << 16) |
               static_cast<std::uint64_t>((address & 0x3FFFFu) >> 4);
    }
    /// The operand whose depth runs along columns: rows from `row` (a multiple of 8) on.
    LONGSPAN_HD constexpr std::uint64_t rows_from(int row = 0) const { return descriptor(base + static_cast<std::uint32_t>(row * 128), 16); }
    /// What to add for depth element `column`, a multiple of 16.
    LONGSPAN_HD static constexpr std::uint64_t along_columns(int column) {
        return static_cast<std::uint64_t>((column / 64 * panel + column % 64 * 2) >> 4);
    }
    /// The operand whose depth runs along rows: columns from `column` (a multiple of 64) on.
    LONGSPAN_HD constexpr std::uint64_t columns_from(int column = 0) const {
        return descriptor(base + static_cast<std::uint32_t>(column / 64 * panel), panel);
    }
    /// What to add for depth element `row`, a multiple of 16.
    LONGSPAN_HD static constexpr std::uint64_t along_rows(int row) { return static_cast<std::uint64_t>((row * 128) >> 4); }
};

}  // namespace longspan::cuda::hopper::detail
