// SPDX-License-Identifier: Apache-2.0
//
// The few functions that a learning rate needs, as constant expressions: std::cos and std::pow are none before C++26, and a
// rate that the C library's version decides would move every bit of a run.
#pragma once

#include <cstdio>
#include <string>

#include <longspan/core/types.hpp>

namespace longspan::detail {

/// (1 + cos πx) / 2 for x in [0, 1], within 2 units in the last place of 1; exactly 1, 1/2 and 0 at 0, 1/2 and 1.
[[nodiscard]] constexpr double half_cosine(double x) {
    if (x > 0.5) return 1.0 - half_cosine(1.0 - x);
    // On [0, 1/4] the series of cos πx, on [1/4, 1/2] that of sin π(1/2 − x): eleven terms reach double at angles up to π/4.
    constexpr double pi = 3.14159265358979323846;
    const bool is_sine = x > 0.25;
    const double angle = pi * (is_sine ? 0.5 - x : x);
    double term = is_sine ? angle : 1.0;
    double sum = term;
    for (int n = is_sine ? 2 : 1; n < 22; n += 2) {
        term *= -angle * angle / (n * (n + 1.0));
        sum += term;
    }
    return 0.5 * (1.0 + sum);
}

/// base^exponent for exponent ≥ 0, by squaring.
LONGSPAN_HD [[nodiscard]] constexpr double power(double base, index exponent) {
    double result = 1.0;
    for (; exponent > 0; exponent /= 2) {
        if (exponent % 2 == 1) result *= base;
        base *= base;
    }
    return result;
}

/// √x for x ≥ 0. Newton's steps from above decrease until they have arrived.
LONGSPAN_HD [[nodiscard]] constexpr double square_root(double x) {
    if (!(x > 0.0)) return 0.0;
    double root = x > 1.0 ? x : 1.0;
    for (double next = 0.5 * (root + x / root); next < root; next = 0.5 * (root + x / root)) root = next;
    return root;
}

/// A rate that comes down from peak to floor (neither is NaN then).
[[nodiscard]] constexpr bool sensible(double peak, double floor) {
    return peak > 0.0 && peak < 1e6 && floor >= 0.0 && floor <= peak;
}

/// A number as a message shows it: "0.0003", "-1", "nan".
[[nodiscard]] inline std::string number(double value) {
    char text[32];
    const int length = std::snprintf(text, sizeof text, "%g", value);
    return std::string(text, static_cast<std::size_t>(length));
}

}  // namespace longspan::detail
