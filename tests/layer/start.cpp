// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>

#include <longspan/layer/start.hpp>

namespace ls = longspan;

static_assert(ls::constant_sqrt(0) == 0);
static_assert(ls::constant_sqrt(1) == 1);
static_assert(ls::constant_sqrt(144) == 12);

TEST_CASE("start: roots are right to the last bits, far and near") {
    for (const double x : {1e-12, 0.5, 2.0, 3.0, 768.0, 50257.0, 1e15}) CHECK(ls::constant_sqrt(x) == doctest::Approx(std::sqrt(x)).epsilon(1e-15));
}

TEST_CASE("start: a projection keeps unit variance, and a stack of branches adds up to it") {
    CHECK(ls::fan_in_deviation(64) == 0.125);
    CHECK(ls::residual_deviation(64, 8) == 0.125 / 4);
    CHECK(2 * 8 * 64 * ls::residual_deviation(64, 8) * ls::residual_deviation(64, 8) == doctest::Approx(1.0));
}
