// SPDX-License-Identifier: Apache-2.0
//
// Rounding to a narrow format in double arithmetic: divide by the unit in the last place, nearbyint (which rounds to nearest
// even), multiply. Every step but the nearbyint is exact, since the units are powers of two.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>

namespace rounding {

struct layout {
    int mantissa;           // stored bits
    int smallest_exponent;  // of a normal number
    double maximum;
};

inline double reference(layout format, double value) {
    if (value == 0 || !std::isfinite(value)) return value;
    const int exponent = std::max(std::ilogb(value), format.smallest_exponent);
    const double unit = std::ldexp(1.0, exponent - format.mantissa);
    const double rounded = std::nearbyint(value / unit) * unit;
    if (std::abs(rounded) > format.maximum) return std::copysign(std::numeric_limits<double>::infinity(), value);
    return rounded;
}

template <class Stored>
void check(layout format, float value) {
    const float got = Stored(value);
    if (std::isnan(value)) {
        REQUIRE(std::isnan(got));
        REQUIRE(std::signbit(got) == std::signbit(value));
    } else {
        REQUIRE(std::bit_cast<std::uint32_t>(got) ==
                std::bit_cast<std::uint32_t>(static_cast<float>(reference(format, static_cast<double>(value)))));
    }
}

template <class Stored>
void sweep(layout format) {
    // Every upper half of a float with a few lower halves around zero, the tie and one: all ties, and both their neighbours.
    for (std::uint32_t high = 0; high < 65536; ++high) {
        constexpr std::uint32_t lows[] = {0u,      1u,      0x0fffu, 0x1000u, 0x1001u, 0x3000u,
                                          0x7fffu, 0x8000u, 0x8001u, 0xf000u, 0xffffu};
        for (const std::uint32_t low : lows) check<Stored>(format, std::bit_cast<float>((high << 16) | low));
    }
    std::uint32_t state = 12345;
    for (int i = 0; i < 500000; ++i) {
        state = state * 1664525u + 1013904223u;
        check<Stored>(format, std::bit_cast<float>(state ^ (state >> 15)));
    }
}

}  // namespace rounding
