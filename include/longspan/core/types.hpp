// SPDX-License-Identifier: Apache-2.0
//
// The integers of longspan. Whatever addresses a token, a row or an element is 64 bits wide: one layer's activations at four
// million tokens pass 2^31 elements long before they pass a GPU's memory. 32 bits are for positions inside a tile.
#pragma once

#include <cstddef>
#include <cstdint>

// A function marked LONGSPAN_HD may be called from host and from device code.
#if defined(__CUDACC__)
#define LONGSPAN_HD __host__ __device__
#else
#define LONGSPAN_HD
#endif

namespace longspan {

/// Counts and offsets of tokens, rows and elements; signed, so that differences of positions need no care.
using index = std::int64_t;

/// Bytes, in plans and arenas.
using bytes = std::int64_t;

inline constexpr bytes KiB = 1024;
inline constexpr bytes MiB = 1024 * KiB;
inline constexpr bytes GiB = 1024 * MiB;

/// ⌈a / b⌉ for a ≥ 0, b > 0.
LONGSPAN_HD [[nodiscard]] constexpr index ceil_div(index a, index b) noexcept { return (a + b - 1) / b; }

/// The smallest multiple of b that is not below a (a ≥ 0, b > 0).
LONGSPAN_HD [[nodiscard]] constexpr index round_up(index a, index b) noexcept { return ceil_div(a, b) * b; }

/// ⌊a / b⌋ for b > 0 and any a (C++ division rounds towards zero).
LONGSPAN_HD [[nodiscard]] constexpr index floor_div(index a, index b) noexcept {
    return a >= 0 ? a / b : -ceil_div(-a, b);
}

}  // namespace longspan
