// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>

#include <longspan/core/dropout.hpp>

namespace ls = longspan;

static_assert(!ls::dropout_rate{}.active() && ls::dropout_rate{}.scale() == 1.0f);
static_assert(!ls::dropout_rate{0.001}.active());
static_assert(ls::dropout_rate{0.1}.threshold() == 26);
static_assert(ls::dropout_rate{0.5}.threshold() == 128 && ls::dropout_rate{0.5}.scale() == 2.0f);
static_assert(ls::dropout_rate{0.5}.scale<double>() == 2.0);
static_assert(ls::depth_rate{0.25}.threshold() == 1u << 30 && !ls::depth_rate{}.active());
static_assert(ls::depth_rate{0.2}.scale<double>() - 1.25 < 1e-9 && ls::depth_rate{0.2}.scale() == 1.25f);
static_assert(ls::dropout_rate{255.0 / 256}.threshold() == 255 && ls::dropout_rate{255.0 / 256}.scale() == 256.0f);

TEST_CASE("dropout_rate: the expectation is kept for every rate") {
    for (int threshold = 0; threshold < 256; ++threshold) {
        const ls::dropout_rate rate{threshold / 256.0};
        REQUIRE(rate.threshold() == static_cast<unsigned>(threshold));
        REQUIRE(std::abs(static_cast<double>(rate.scale()) * (256 - threshold) / 256 - 1) < 1e-7);
    }
}

TEST_CASE("dropout_rate: a probability outside of its range is refused with what came") {
    CHECK_THROWS_WITH_AS(ls::dropout_rate{-0.1},
                         "a probability of dropping: expected at least 0 and, rounded to 8 bits, less than 1; got -0.100000",
                         ls::bad_argument);
    CHECK_THROWS_AS(ls::depth_rate{1.0}, ls::bad_argument);
    CHECK_THROWS_AS(ls::dropout_rate{1.0}, ls::bad_argument);
    CHECK_THROWS_AS(ls::dropout_rate{std::numeric_limits<double>::quiet_NaN()}, ls::bad_argument);
}
