// SPDX-License-Identifier: Apache-2.0
//
// ALiBi's slopes: how fast each head forgets with distance. Reference: Press et al., "Train Short, Test Long", arXiv:2108.12409,
// and its authors' code for head counts between powers of two.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

/// The slope of head h of `heads`: 2^(−8(h+1)/n) for a power of two n; between powers, those of the power below, then every other
/// one of the power above. A score loses slope · distance.
[[nodiscard]] constexpr double alibi_slope(index head, index heads) {
    index power = 1;
    while (2 * power <= heads) power *= 2;
    const bool beyond = head >= power;
    const index n = beyond ? 2 * power : power;
    index eighths = 8 * ((beyond ? 2 * (head - power) : head) + 1);  // of n
    double slope = 1;
    for (; eighths >= n; eighths -= n) slope /= 2;
    // What is left of the exponent, bit by bit: 2^(−1/2), 2^(−1/4), …
    double root = 0.5;
    for (index bit = n / 2; bit > 0 && eighths > 0; bit /= 2) {
        double next = 1;
        for (int i = 0; i < 64; ++i) next = (next + root / next) / 2;  // Newton: std::sqrt is no constant expression
        root = next;
        if (eighths >= bit) slope *= root, eighths -= bit;
    }
    return slope;
}

}  // namespace longspan
