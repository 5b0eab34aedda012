// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/optim/schedule.hpp>

#include <algorithm>
#include <cmath>
#include <numbers>

namespace ls = longspan;

namespace {

// Schedules are constant expressions, so that a config can assert where its rate goes.
constexpr auto main_job =
    ls::warm_up{ls::in_steps(100)}.then(ls::cosine{.peak = 3e-3, .over = ls::in_steps(1000), .floor = 3e-4}).check();
static_assert(main_job.learning_rate(99, 0) == 3e-3);
static_assert(main_job.learning_rate(100, 0) == 3e-3);
static_assert(main_job.learning_rate(1100, 0) == 3e-4);
static_assert(main_job.learning_rate(1'000'000, 0) == 3e-4);
static_assert(ls::schedule<ls::constant> && ls::schedule<ls::cosine> && ls::schedule<ls::cosine_restarts> &&
              ls::schedule<ls::stable_then_decay> && ls::schedule<decltype(main_job)> &&
              ls::schedule<ls::scaled_by_batch<ls::constant>>);
static_assert(!ls::schedule<int> && !ls::schedule<ls::warm_up>);

double cosine_by_definition(double peak, double floor, double done) {
    return floor + (peak - floor) * 0.5 * (1.0 + std::cos(std::numbers::pi * done));
}

}  // namespace

TEST_CASE("the elementary functions agree with the C library's") {
    for (int i = 0; i <= 10'000; ++i) {
        const double x = i / 10'000.0;
        REQUIRE(std::abs(ls::detail::half_cosine(x) - 0.5 * (1.0 + std::cos(std::numbers::pi * x))) <= 4.5e-16);
        REQUIRE(ls::detail::square_root(x) == doctest::Approx(std::sqrt(x)).epsilon(3e-16));
        REQUIRE(ls::detail::square_root(1e9 * x) == doctest::Approx(std::sqrt(1e9 * x)).epsilon(3e-16));
    }
    static_assert(ls::detail::half_cosine(0) == 1.0 && ls::detail::half_cosine(0.5) == 0.5 &&
                  ls::detail::half_cosine(1) == 0.0);
    for (ls::index n : {0, 1, 2, 3, 10, 1000, 123'456})
        CHECK(ls::detail::power(0.999, n) == doctest::Approx(std::pow(0.999, double(n))).epsilon(1e-13));
    CHECK(ls::detail::power(0.9, 1'000'000'000'000) == 0.0);
    CHECK(ls::detail::number(3e-4) == "0.0003");
}

TEST_CASE("cosine follows its definition and stays at the floor") {
    constexpr ls::cosine rate{.peak = 1e-3, .over = ls::in_steps(777), .floor = 1e-5};
    for (ls::index step = 0; step <= 777; ++step)
        REQUIRE(rate.learning_rate(step, 0) ==
                doctest::Approx(cosine_by_definition(1e-3, 1e-5, double(step) / 777)).epsilon(1e-14));
    CHECK(rate.learning_rate(5000, 0) == 1e-5);
}

TEST_CASE("counted in tokens, the curve over data seen is the same for every batch") {
    constexpr auto rate = ls::warm_up{ls::in_tokens(8192)}.then(ls::cosine{.peak = 1, .over = ls::in_tokens(65536)});
    for (ls::index batch : {512, 1024, 4096}) {
        for (ls::index tokens = 0; tokens < 80'000; tokens += batch) {
            const double expected = tokens + batch <= 8192 ? double(tokens + batch) / 8192
                                    : tokens <= 8192       ? 1.0
                                                     : cosine_by_definition(1, 0, std::min(1.0, double(tokens - 8192) / 65536));
            REQUIRE(rate.learning_rate(tokens / batch, tokens, batch) == doctest::Approx(expected).epsilon(1e-13));
        }
    }
    // A phase with four times the batch goes through the schedule four times as fast.
    CHECK(rate.learning_rate(20, 40'960, 2048) == rate.learning_rate(5, 40'960, 8192));
}

TEST_CASE("warm-up rises by equal shares, the first at the first update") {
    constexpr auto rate = ls::warm_up{ls::in_steps(4)}.then(ls::constant{.peak = 8});
    const double expected[] = {2, 4, 6, 8, 8, 8};
    for (ls::index step = 0; step < 6; ++step) CHECK(rate.learning_rate(step, 0) == expected[step]);
}

TEST_CASE("warm restarts: each cycle starts at its peak, grows and shrinks as told") {
    constexpr ls::cosine_restarts rate{.peak = 1, .period = ls::in_steps(10), .growth = 2, .keep = 0.5, .floor = 0};
    struct cycle {
        int start, length;
        double peak;
    };
    for (const auto& [start, length, peak] : {cycle{0, 10, 1.0}, {10, 20, 0.5}, {30, 40, 0.25}, {70, 80, 0.125}}) {
        for (int i = 0; i < length; ++i)
            REQUIRE(rate.learning_rate(start + i, 0) ==
                    doctest::Approx(cosine_by_definition(peak, 0, double(i) / length)).epsilon(1e-13));
    }
    constexpr ls::cosine_restarts even{.peak = 1, .period = ls::in_tokens(10)};
    CHECK(even.learning_rate(0, 1'000'000'000'003) == even.learning_rate(0, 3));
    CHECK(ls::cosine_restarts{.peak = 1, .period = ls::in_steps(1), .growth = 1'000'000'000}.learning_rate(INT64_MAX, 0) >= 0);
}

TEST_CASE("warm-up, stable, decay") {
    using decay = ls::stable_then_decay;
    constexpr auto rate = ls::warm_up{ls::in_steps(10)}
                              .then(decay{.peak = 1, .stable = ls::in_steps(50), .decay = ls::in_steps(20), .floor = 0.1})
                              .check();
    CHECK(rate.learning_rate(4, 0) == 0.5);
    for (ls::index step = 9; step <= 60; ++step) CHECK(rate.learning_rate(step, 0) == 1.0);
    CHECK(rate.learning_rate(70, 0) == doctest::Approx(0.55));
    CHECK(rate.learning_rate(80, 0) == 0.1);
    CHECK(rate.learning_rate(800, 0) == 0.1);
    constexpr decay root{.peak = 1, .decay = ls::in_steps(100), .along = decay::shape::one_minus_root};
    CHECK(root.learning_rate(25, 0) == doctest::Approx(0.5));
}

TEST_CASE("a rate tuned at one batch, at another") {
    constexpr ls::scaled_by_batch rate{.base = ls::constant{.peak = 1}, .reference = 1024};
    CHECK(rate.learning_rate(0, 0, 1024) == 1.0);
    CHECK(rate.learning_rate(0, 0, 4096) == 2.0);
    constexpr ls::scaled_by_batch<ls::constant> linear{ls::constant{.peak = 1}, 1024,
                                                       ls::scaled_by_batch<ls::constant>::rule::linear};
    CHECK(linear.learning_rate(0, 0, 4096) == 4.0);
    CHECK_THROWS_WITH_AS(static_cast<void>(rate.learning_rate(0, 0, 0)),
                         "scaled_by_batch: expected the tokens of the update, got 0", ls::bad_argument);
    // The warm-up of a scaled schedule rises to the scaled rate.
    CHECK(ls::warm_up{ls::in_steps(2)}.then(rate).learning_rate(0, 0, 4096) == 1.0);
}

TEST_CASE("a senseless schedule is a sentence") {
    using ls::bad_argument;
    CHECK_THROWS_WITH_AS(ls::constant{}.check(), "constant: expected a peak above 0, got 0", bad_argument);
    CHECK_THROWS_WITH_AS(ls::constant{.peak = NAN}.check(), "constant: expected a peak above 0, got nan", bad_argument);
    CHECK_THROWS_WITH_AS((ls::cosine{.peak = 1, .over = ls::in_steps(1), .floor = 2}.check()),
                         "cosine: expected 0 <= floor <= peak, peak > 0, got 2 and 1", bad_argument);
    CHECK_THROWS_WITH_AS(ls::cosine{.peak = 1}.check(), "cosine: expected to last at least 1, got 0", bad_argument);
    CHECK_THROWS_WITH_AS((ls::cosine_restarts{.peak = 1, .period = ls::in_steps(1), .growth = 0}.check()),
                         "cosine_restarts: expected a growth of at least 1, got 0", bad_argument);
    CHECK_THROWS_WITH_AS((ls::cosine_restarts{.peak = 1, .period = ls::in_steps(1), .keep = 0}.check()),
                         "cosine_restarts: expected 0 < keep <= 1, got 0", bad_argument);
    CHECK_THROWS_AS((ls::stable_then_decay{.peak = 1, .stable = ls::in_steps(1), .decay = ls::in_tokens(5)}.check()),
                    bad_argument);
    CHECK_THROWS_AS((ls::stable_then_decay{.peak = 1, .stable = ls::in_steps(-1), .decay = ls::in_steps(5)}.check()),
                    bad_argument);
    CHECK_THROWS_WITH_AS(
        (static_cast<void>(ls::warm_up{ls::in_steps(5)}.then(ls::cosine{.peak = 1, .over = ls::in_tokens(5)}))),
        "warm_up: count it in the unit of what follows: steps, or tokens", bad_argument);
    CHECK_THROWS_AS(static_cast<void>(ls::warm_up{ls::in_steps(0)}.then(ls::constant{.peak = 1})), bad_argument);
    CHECK_THROWS_AS((ls::scaled_by_batch{.base = ls::constant{.peak = 1}}.check()), bad_argument);
}
