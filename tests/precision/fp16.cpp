// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <longspan/precision/fp16.hpp>

#include "rounding.hpp"

namespace ls = longspan;

namespace {

constexpr rounding::layout fp16_layout{.mantissa = 10, .smallest_exponent = -14, .maximum = 65504.0};

}  // namespace

static_assert(float(ls::fp16(1.0f)) == 1.0f);
static_assert(ls::fp16(65519.996f).bits == 0x7bff);
static_assert(ls::fp16(65520.0f).bits == 0x7c00);    // a tie with infinity
static_assert(ls::fp16(0x1p-25f).bits == 0x0000);    // a tie with zero
static_assert(ls::fp16(0x1.8p-24f).bits == 0x0002);  // a tie between subnormals
static_assert(ls::fp16(-0.0f).bits == 0x8000);

TEST_CASE("fp16: every pattern decodes to its value and encodes back to itself") {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const auto stored = ls::fp16::from_bits(static_cast<std::uint16_t>(bits));
        const float value = stored;
        const unsigned exponent = (bits >> 10) & 0x1fu, mantissa = bits & 0x3ffu;
        if (exponent == 0x1fu && mantissa != 0) {
            REQUIRE(std::isnan(value));
            REQUIRE(ls::fp16(value).bits == (bits | 0x200u));
            continue;
        }
        const double size = exponent == 0x1fu ? std::numeric_limits<double>::infinity()
                            : exponent == 0   ? std::ldexp(mantissa, -24)
                                              : std::ldexp(1024 + mantissa, static_cast<int>(exponent) - 25);
        REQUIRE(static_cast<double>(value) == ((bits & 0x8000u) != 0 ? -size : size));
        REQUIRE(std::signbit(value) == ((bits & 0x8000u) != 0));
        REQUIRE(ls::fp16(value).bits == bits);
    }
}

TEST_CASE("fp16: encoding rounds to nearest even, over random floats and every tie and its neighbours") {
    rounding::sweep<ls::fp16>(fp16_layout);
}
