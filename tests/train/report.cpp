// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <sstream>

#include <longspan/train/report.hpp>

namespace ls = longspan;

TEST_CASE("report: one line, and bits from nats") {
    ls::step_report r{.step = 12, .loss = 2.345678, .gradient_norm = 0.98765, .learning_rate = 3e-4, .tokens = 100, .targets = 99};
    CHECK(ls::describe(r) == "step 12  loss 2.3457  norm 0.9877  rate 0.0003  targets 99");
    CHECK(r.bits_per_token() == doctest::Approx(2.345678 / std::log(2.0)).epsilon(1e-15));
    std::ostringstream out;
    out << r << '|';
    CHECK(out.str() == ls::describe(r) + "|");
}

TEST_CASE("report: a refusal is told, and numbers that are none are named") {
    ls::step_report r{.step = 1, .loss = std::numeric_limits<double>::quiet_NaN(), .gradient_norm = HUGE_VAL, .learning_rate = 1, .refused = "why"};
    CHECK(ls::describe(r) == "step 1  loss nan  norm inf  rate 1  targets 0  (no update: why)");
    r.loss = -HUGE_VAL;
    CHECK(ls::describe(r).find("loss -inf") != std::string::npos);
}
