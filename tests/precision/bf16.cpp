// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <longspan/precision/bf16.hpp>

#include "rounding.hpp"

namespace ls = longspan;

namespace {

constexpr rounding::layout bf16_layout{.mantissa = 7, .smallest_exponent = -126, .maximum = 0x1.fep127};

}  // namespace

static_assert(float(ls::bf16(1.0f)) == 1.0f);
static_assert(ls::bf16(1.00390625f).bits == 0x3f80);      // a tie goes to the even pattern below
static_assert(ls::bf16(1.01171875f).bits == 0x3f82);      // and to the one above
static_assert(ls::bf16(0x1.ffp127f).bits == 0x7f80);      // a tie with infinity
static_assert(ls::bf16(0x1.fefffep127f).bits == 0x7f7f);  // just below it
static_assert(ls::bf16(-0.0f).bits == 0x8000);

TEST_CASE("bf16: every pattern decodes to its value and encodes back to itself") {
    for (unsigned bits = 0; bits < 65536; ++bits) {
        const auto stored = ls::bf16::from_bits(static_cast<std::uint16_t>(bits));
        const float value = stored;
        const unsigned exponent = (bits >> 7) & 0xffu, mantissa = bits & 0x7fu;
        if (exponent == 0xffu && mantissa != 0) {
            REQUIRE(std::isnan(value));
            REQUIRE(ls::bf16(value).bits == (bits | 0x40u));
            continue;
        }
        const double size = exponent == 0xffu ? std::numeric_limits<double>::infinity()
                            : exponent == 0   ? std::ldexp(mantissa, -133)
                                              : std::ldexp(128 + mantissa, static_cast<int>(exponent) - 134);
        REQUIRE(static_cast<double>(value) == ((bits & 0x8000u) != 0 ? -size : size));
        REQUIRE(std::signbit(value) == ((bits & 0x8000u) != 0));
        REQUIRE(ls::bf16(value).bits == bits);
    }
}

TEST_CASE("bf16: encoding rounds to nearest even, over random floats and every tie and its neighbours") {
    rounding::sweep<ls::bf16>(bf16_layout);
}
