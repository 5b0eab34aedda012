// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <limits>
#include <random>

#include <longspan/precision/stochastic.hpp>

namespace ls = longspan;

namespace {

/// In double: the two bf16 around x, and how far x is on the way from the one nearer to 0.
struct neighbours {
    double low, high, share;
    explicit neighbours(float x) {
        const int exponent = std::max(std::ilogb(x), -126);
        const double unit = std::ldexp(1.0, exponent - 7);
        low = std::trunc(static_cast<double>(x) / unit) * unit;
        high = low + std::copysign(unit, x);
        share = (static_cast<double>(x) - low) / (high - low);
    }
};

}  // namespace

TEST_CASE("stochastic: one of the two neighbours, the upper for just the share of the 65,536 draws that the value is on its way") {
    std::mt19937_64 random(1);
    std::normal_distribution<double> normal;
    for (int i = 0; i < 40; ++i) {
        const auto x = static_cast<float>(normal(random) * std::exp2(i % 4 == 0 ? -130 : 10 * (i % 7) - 30));
        const neighbours beside(x);
        long upper = 0;
        bool one_of_two = true;
        for (std::uint32_t draw = 0; draw < 65536; ++draw) {
            const double rounded = static_cast<float>(ls::round_stochastically(x, draw));
            one_of_two = one_of_two && (rounded == beside.low || rounded == beside.high);
            upper += rounded == beside.high;
        }
        CHECK(one_of_two);
        CHECK(static_cast<double>(upper) == beside.share * 65536);  // exact: a float has 16 bits more
    }
}

TEST_CASE("stochastic: what is a bf16 stays; infinities and NaN stay what they are") {
    for (std::uint32_t pattern = 0; pattern < 65536; ++pattern) {
        const ls::bf16 stored = ls::bf16::from_bits(static_cast<std::uint16_t>(pattern));
        const float value = stored;
        for (const std::uint32_t draw : {0u, 1u, 0x8000u, 0xffffu}) {
            const ls::bf16 rounded = ls::round_stochastically(value, draw);
            if (std::isnan(value)) REQUIRE(std::isnan(static_cast<float>(rounded)));
            else REQUIRE(rounded.bits == stored.bits);
        }
    }
    const float nan = std::bit_cast<float>(0x7fffffffu);  // its payload must not run over into the sign
    CHECK(std::isnan(static_cast<float>(ls::round_stochastically(nan, 0xffff))));
    CHECK(static_cast<float>(ls::round_stochastically(std::numeric_limits<float>::max(), 0xffff)) == HUGE_VALF);
}

TEST_CASE("stochastic: draws depend on seed, update, tensor and element, and are those written down") {
    const std::uint64_t seed = 42;
    const ls::index update = 7;
    const ls::philox_key key = ls::rounding_source{&seed, &update}.key();
    CHECK(key == ls::key_of({42, 7, 0, 0x726f756e}));
    CHECK(ls::rounding_bits(key, (ls::index{1} << 33) + 5, ls::rounded_tensor::second_moment) == ls::philox4x32({{5, 2, 3, 2}}, key));
    CHECK(ls::rounding_bits(key, 5, ls::rounded_tensor::weight) == ls::philox4x32({{5, 0, 1, 2}}, key));
    const ls::philox_block block{{0x11112222u, 0x33334444u, 0x55556666u, 0x77778888u}};
    CHECK(ls::half_of(block, 0) == 0x2222u);
    CHECK(ls::half_of(block, 1) == 0x1111u);
    CHECK(ls::half_of(block, 7) == 0x7777u);
    const ls::index next = 8;
    CHECK_FALSE(ls::rounding_source{&seed, &next}.key() == key);
}

TEST_CASE("stochastic: unbiased over the draws of Philox, where rounding to nearest would not move at all") {
    // A weight of 1 moved by 2^-12, a 32nd of its last place, in each of n updates of its own.
    const float moved = 1 - 0x1p-12f;
    CHECK(static_cast<float>(ls::bf16(moved)) == 1);
    const std::uint64_t seed = 3;
    double sum = 0;
    const ls::index n = 100'000;
    for (ls::index update = 1; update <= n / 8; ++update) {
        const ls::philox_block drawn = ls::rounding_bits(ls::rounding_source{&seed, &update}.key(), 11, ls::rounded_tensor::weight);
        for (ls::index j = 0; j < 8; ++j) sum += static_cast<double>(static_cast<float>(ls::round_stochastically(moved, ls::half_of(drawn, j))));
    }
    // Down by 2^-8 with probability 1/16: the deviation of a mean of n is 2^-8 · √(15/256/n); five of them.
    CHECK(std::abs(sum / static_cast<double>(n) - static_cast<double>(moved)) < 5 * 0x1p-8 * std::sqrt(15.0 / 256 / static_cast<double>(n)));
}
