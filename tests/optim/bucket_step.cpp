// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <type_traits>

#include <longspan/optim/bucket_step.hpp>

namespace ls = longspan;

// A device's copy is made byte by byte.
static_assert(std::is_trivially_copyable_v<ls::begin_bucket_step> && std::is_trivially_copyable_v<ls::weigh_buckets>);

namespace {

constexpr double not_a_number = std::numeric_limits<double>::quiet_NaN();

/// A step in the middle of a run: two targets.
struct step_under_way {
    ls::step_request asked{.learning_rate = 0.01, .target_weight = 2, .restated = true, .keys = {7, 40}, .updates = 30, .scale = {}};
    ls::step_state state;

    void begin() {
        ls::begin_bucket_step{&state, &asked, ls::adamw{}, 0.1}();
        state.losses.loss = 5;
    }
    /// Whether the bucket is updated.
    bool bucket(ls::index number, double squares) {
        state.norm = squares;
        ls::judge_bucket{&state, number}();
        return state.apply != 0;
    }
    void conclude() { ls::conclude_bucket_step{&state}(); }
};

}  // namespace

TEST_CASE("bucket_step: scalars are there when it begins, those of a whole step without a clip; norms add up") {
    step_under_way step;
    step.begin();
    CHECK(step.bucket(3, 10));
    CHECK(step.bucket(1, 20));
    CHECK(step.bucket(0, 6));
    step.conclude();
    CHECK(step.state.norm == 3);
    CHECK(step.state.keys.step == 41);
    CHECK(step.state.updates == 31);
    ls::step_state whole;
    ls::begin_step{&whole, &step.asked}();
    whole.losses.loss = 5;
    whole.squares = 36;
    ls::conclude_step{&whole, ls::adamw{}, 0.1, ls::no_clip}();
    CHECK(whole.norm == step.state.norm);
    for (int group : {0, 1}) {
        CHECK(whole.scalars[group].gradient_factor == step.state.scalars[group].gradient_factor);
        CHECK(whole.scalars[group].kept == step.state.scalars[group].kept);
        CHECK(whole.scalars[group].step == step.state.scalars[group].step);
        CHECK(whole.scalars[group].root_factor == step.state.scalars[group].root_factor);
    }
}

TEST_CASE("bucket_step: from a bucket that is not finite on none is updated, nor in later steps, until counters are set anew") {
    step_under_way step;
    step.begin();
    CHECK(step.bucket(3, 10));
    CHECK_FALSE(step.bucket(2, not_a_number));
    CHECK_FALSE(step.bucket(1, HUGE_VAL));
    CHECK_FALSE(step.bucket(0, 1));
    step.conclude();
    CHECK(step.state.not_finite == 2);  // the first
    step.asked.restated = false;
    step.begin();
    CHECK_FALSE(step.bucket(3, 10));
    step.conclude();
    CHECK(step.state.not_finite == 2);
    step.asked.restated = true;
    step.begin();
    CHECK(step.bucket(3, 10));
}

TEST_CASE("bucket_step: a loss that is not finite, an id beyond the vocabulary, no targets: nothing is updated and no update counted") {
    for (int what : {0, 1, 2}) {
        step_under_way step;
        step.asked.target_weight = what == 2 ? 0 : 2;
        step.begin();
        if (what == 0) step.state.losses.loss = not_a_number;
        if (what == 1) step.state.bad.target = 9;
        for (ls::index bucket : {3, 2, 1, 0}) CHECK_FALSE(step.bucket(bucket, not_a_number));
        step.conclude();
        CHECK(step.state.updates == 30);
        CHECK(step.state.keys.step == (what == 1 ? 40 : 41));
        CHECK(step.state.not_finite == -1);
    }
}

TEST_CASE("bucket_step: two passes: the first decides as a whole step does, the second draws and sums anew") {
    step_under_way step;
    const auto measured = [&](double of_last) {
        ls::begin_first_pass{&step.state, &step.asked}();
        step.state.losses.loss = 5;
        for (const double squares : {25.0, 71.0, of_last}) {
            step.state.norm = squares;
            ls::measure_bucket{&step.state, squares == of_last ? 0 : 1}();
        }
        ls::weigh_buckets{{&step.state, ls::adamw{}, 0.1, 1.0}}();
    };
    measured(4);
    CHECK(step.state.apply == 1);
    CHECK(step.state.norm == 5);
    CHECK(step.state.scalars[0].gradient_factor == 1.0 / 5 / 2);
    CHECK(step.state.keys.step == 40);  // the second pass sees the draws of the first
    CHECK(step.state.losses.loss == 0);
    ls::conclude_second_pass{&step.state}();
    CHECK(step.state.keys.step == 41);
    measured(HUGE_VAL);
    CHECK(step.state.apply == 0);
    CHECK(step.state.not_finite == 0);
}
