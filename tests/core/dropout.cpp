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
static_assert(ls::dropout_rate{255.0 / 256}.threshold() == 255 && ls::dropout_rate{255.0 / 256}.scale() == 256.0f);

TEST_CASE("dropout_rate: the expectation is kept for every rate") {
    for (int threshold = 0; threshold < 256; ++threshold) {
        const ls::dropout_rate rate{threshold / 256.0};
        REQUIRE(rate.threshold() == static_cast<unsigned>(threshold));
        REQUIRE(std::abs(static_cast<double>(rate.scale()) * (256 - threshold) / 256 - 1) < 1e-7);
    }
}

TEST_CASE("dropout_rate: a probability outside of [0, 255/256] is refused with what came") {
    CHECK_THROWS_WITH_AS(ls::dropout_rate{-0.1}, "dropout: expected a probability from 0 up to 255/256, got -0.100000",
                         ls::bad_argument);
    CHECK_THROWS_AS(ls::dropout_rate{1.0}, ls::bad_argument);
    CHECK_THROWS_AS(ls::dropout_rate{std::numeric_limits<double>::quiet_NaN()}, ls::bad_argument);
}
