// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/optim/loss_scale.hpp>

namespace ls = longspan;

TEST_CASE("a format that needs no scale keeps 1, whatever happens") {
    auto scale = ls::loss_scale::start(false);
    CHECK(scale.value == 1.0);
    for (int i = 0; i < 5000; ++i) scale.good();
    scale.overflowed();
    CHECK(scale.value == 1.0);
}

TEST_CASE("the scale doubles after a stretch of good steps and halves at once") {
    auto scale = ls::loss_scale::start(true);
    CHECK(scale.value == 1024.0);
    for (ls::index i = 1; i < ls::loss_scale::stretch; ++i) scale.good();
    CHECK(scale.value == 1024.0);
    scale.good();
    CHECK(scale.value == 2048.0);
    // An overflow starts the stretch anew.
    for (ls::index i = 1; i < ls::loss_scale::stretch; ++i) scale.good();
    scale.overflowed();
    CHECK(scale.value == 1024.0);
    scale.good();
    CHECK(scale.value == 1024.0);
    CHECK(scale.good_steps == 1);
}

TEST_CASE("the scale stays a power of two between its bounds") {
    auto scale = ls::loss_scale::start(true);
    for (int i = 0; i < 100; ++i) scale.overflowed();
    CHECK(scale.value == ls::loss_scale::smallest);
    for (ls::index i = 0; i < 40 * ls::loss_scale::stretch; ++i) scale.good();
    CHECK(scale.value == ls::loss_scale::largest);
    CHECK(scale == ls::loss_scale{ls::loss_scale::largest, 0, true});
}
