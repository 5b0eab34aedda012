// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <initializer_list>

#include <doctest/doctest.h>

#include <longspan/core/alibi.hpp>

using longspan::alibi_slope, longspan::index;

TEST_CASE("alibi: ALiBi's slopes are the published ones") {
    static_assert(alibi_slope(0, 8) == 0.5 && alibi_slope(7, 8) == 1.0 / 256 && alibi_slope(0, 1) == 1.0 / 256);
    static_assert(alibi_slope(3, 4) == 1.0 / 256 && alibi_slope(0, 2) == 1.0 / 16);
    for (const index n : {1, 2, 4, 8, 16, 32, 64, 128})
        for (index h = 0; h < n; ++h)
            CHECK(alibi_slope(h, n) == doctest::Approx(std::exp2(-8.0 * static_cast<double>(h + 1) / static_cast<double>(n))).epsilon(1e-14));
    // get_slopes(12) of the authors' code: 8 heads' slopes, then every other one of 16 heads'.
    for (index h = 0; h < 8; ++h) CHECK(alibi_slope(h, 12) == alibi_slope(h, 8));
    for (index h = 8; h < 12; ++h) CHECK(alibi_slope(h, 12) == doctest::Approx(std::exp2(-0.5 - static_cast<double>(h - 8))).epsilon(1e-14));
}
