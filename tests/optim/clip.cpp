// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/optim/clip.hpp>

#include <limits>

namespace ls = longspan;

TEST_CASE("division by the targets and clipping are one factor") {
    // Sums (30, 40) over 10 targets: the mean gradient is (3, 4), of length 5.
    const auto free = ls::scale_gradients(2500.0, 10.0, {.limit = 5.0});
    CHECK(free.norm == 5.0);
    CHECK(free.factor == 0.1);
    CHECK_FALSE(free.clipped);
    const auto clipped = ls::scale_gradients(2500.0, 10.0);
    CHECK(clipped.norm == 5.0);
    CHECK(clipped.factor * 50.0 == doctest::Approx(1.0));  // the clipped gradient's length is the limit
    CHECK(clipped.clipped);
    CHECK_FALSE(ls::scale_gradients(2500.0, 10.0, {ls::no_clip}).clipped);
}

TEST_CASE("a gradient of zeros is no division by zero") {
    const auto scale = ls::scale_gradients(0.0, 4.0);
    CHECK(scale.norm == 0.0);
    CHECK(scale.factor == 0.25);
    CHECK(scale.finite);
}

TEST_CASE("a norm that is not finite says so and moves nothing") {
    for (double bad : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        const auto scale = ls::scale_gradients(bad, 4.0);
        CHECK_FALSE(scale.finite);
        CHECK(scale.factor == 0.0);
    }
}

TEST_CASE("nothing to divide by is a mistake, and so is a limit of 0") {
    CHECK_THROWS_WITH_AS(static_cast<void>(ls::scale_gradients(1.0, 0.0)),
                         "scale_gradients: expected at least one target to divide by, got 0", ls::bad_argument);
    CHECK_THROWS_WITH_AS(static_cast<void>(ls::scale_gradients(1.0, 1.0, {.limit = 0.0})),
                         "clip_by_global_norm: expected a limit above 0, got 0", ls::bad_argument);
}
