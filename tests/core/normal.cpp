// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <numbers>

#include <longspan/core/normal.hpp>

namespace ls = longspan;

TEST_CASE("normal: the pair is Box and Muller's of the words' uniforms, to a few units in the last place") {
    const ls::philox_key key{{1, 2}};
    double worst = 0;
    const auto compare = [&](std::uint32_t u, std::uint32_t v) {
        const double radius = std::sqrt(-2.0 * std::log((static_cast<double>(u >> 1) + 0.5) * 0x1p-31));
        const double turn = 2 * std::numbers::pi * (static_cast<double>(v) * 0x1p-32);
        const auto [first, second] = ls::detail::box_muller(u, v);
        const double scale = radius * 0x1p-23 + 0x1p-25 / std::max(radius, 0x1p-13);
        worst = std::max({worst, std::abs(static_cast<double>(first) - radius * std::cos(turn)) / scale,
                          std::abs(static_cast<double>(second) - radius * std::sin(turn)) / scale});
    };
    for (ls::index i = 0; i < 50000; ++i) {
        const auto drawn = ls::philox4x32(ls::element_counter(i), key);
        compare(drawn.word[0] & 0x7fffffffu, drawn.word[1]);
        compare(drawn.word[2] >> (i % 32), drawn.word[3]);
    }
    for (const std::uint32_t edge :
         {0u, 0x1fffffffu, 0x20000000u, 0x60000000u, 0x80000000u, 0xa0000000u, 0xe0000000u, 0xffffffffu})
        compare(12345u, edge);
    CHECK(worst < 4);
    CHECK(ls::detail::box_muller(0, 0).first == doctest::Approx(6.66).epsilon(0.01));  // the farthest there is
    CHECK(ls::detail::box_muller(0xffffffffu, 0).first == 0.0f);
}

TEST_CASE("normal: mean, variance, skew, kurtosis and tails of a million") {
    const ls::philox_key key = ls::key_of({.seed = 7, .step = 0, .layer = 0, .site = 0});
    const ls::index blocks = 250000;
    double m1 = 0, m2 = 0, m3 = 0, m4 = 0, cross = 0;
    int beyond_2 = 0, beyond_4 = 0;
    for (ls::index b = 0; b < blocks; ++b) {
        const auto four = ls::normals(ls::philox4x32(ls::element_counter(b), key));
        for (const float value : four.value) {
            const double x = static_cast<double>(value);
            m1 += x;
            m2 += x * x;
            m3 += x * x * x;
            m4 += x * x * x * x;
            beyond_2 += std::abs(x) > 2;
            beyond_4 += std::abs(x) > 4;
        }
        cross += static_cast<double>(four.value[0]) * static_cast<double>(four.value[1]);
    }
    const double n = 4.0 * static_cast<double>(blocks);
    CHECK(std::abs(m1 / n) < 5 / std::sqrt(n));
    CHECK(std::abs(m2 / n - 1) < 5 * std::sqrt(2 / n));
    CHECK(std::abs(m3 / n) < 5 * std::sqrt(15 / n));
    CHECK(std::abs(m4 / n - 3) < 5 * std::sqrt(96 / n));
    CHECK(std::abs(cross / (n / 4)) < 5 / std::sqrt(n / 4));
    CHECK(std::abs(beyond_2 / n - 0.0455003) < 5 * std::sqrt(0.0455 / n));
    CHECK(beyond_4 > 30);  // 63.3 expected
    CHECK(beyond_4 < 105);
}

TEST_CASE("normal: the bits are these, on every compiler") {
    const ls::philox_key key = ls::key_of({.seed = 42, .step = 0, .layer = 0, .site = 0});
    std::uint64_t hash = 14695981039346656037ull;
    for (ls::index i = 0; i < 100000; ++i)
        hash = (hash ^ std::bit_cast<std::uint32_t>(ls::normal_element(key, i))) * 1099511628211ull;
    CHECK(hash == 10011139546030929383ull);
}
