// SPDX-License-Identifier: Apache-2.0
#include <limits>
#include <type_traits>

#include <doctest/doctest.h>

#include <longspan/optim/step_state.hpp>

namespace ls = longspan;

// A device's copy is made byte by byte.
static_assert(std::is_trivially_copyable_v<ls::step_state> && std::is_trivially_copyable_v<ls::step_request>);

namespace {

/// A step in the middle of a run: two targets, gradients whose squares sum to 36 at a loss scale of 1,024.
struct step_under_way {
    ls::step_request asked{.learning_rate = 0.01, .target_weight = 2, .restated = true, .keys = {7, 40}, .updates = 30, .scale = {1024, 5, true}};
    ls::step_state state;
    ls::conclude_step conclude{&state, ls::adamw{}, 0.1, 1.0};

    step_under_way() {
        state.losses.loss = 99;
        state.bad.token = 3;
        begin();
        state.losses.loss = 5;
        state.squares = 36 * 1024.0 * 1024.0;
    }
    void begin() { ls::begin_step{&state, &asked}(); }
};

}  // namespace

TEST_CASE("step_state: a step begins with empty sums, and with the caller's counters only where they were restated") {
    step_under_way step;
    step.begin();
    CHECK(step.state.losses.loss == 0);
    CHECK(step.state.gradient_scale == 1024);
    CHECK(step.state.squares == 0);
    CHECK(!step.state.bad.any());
    CHECK(step.state.keys.seed == 7);
    CHECK(step.state.keys.step == 40);
    CHECK(step.state.updates == 30);
    step.asked = {.learning_rate = 0.5, .target_weight = 3, .restated = false};
    step.begin();
    CHECK(step.state.learning_rate == 0.5);
    CHECK(step.state.target_weight == 3);
    CHECK(step.state.keys.step == 40);
    CHECK(step.state.updates == 30);
    CHECK(step.state.scale.good_steps == 5);
}

TEST_CASE("step_state: a good step counts, and its scalars are the optimizer's own") {
    step_under_way step;
    step.conclude();
    CHECK(step.state.apply == 1);
    CHECK(step.state.norm == 3);
    CHECK(step.state.keys.step == 41);
    CHECK(step.state.updates == 31);
    CHECK(step.state.scale.good_steps == 6);
    const double factor = 1.0 / 3 / 2048;
    const ls::adamw_update decayed = ls::prepare(ls::adamw{}, ls::decay_group::matrix, 31, 0.01, factor);
    const ls::adamw_update kept = ls::prepare(ls::adamw{}, ls::decay_group::vector, 31, 0.01, factor);
    CHECK(step.state.scalars[0].gradient_factor == doctest::Approx(factor).epsilon(1e-15));
    CHECK(step.state.scalars[0].kept == decayed.kept);
    CHECK(step.state.scalars[0].step == decayed.step);
    CHECK(step.state.scalars[1].kept == kept.kept);
    CHECK(step.state.scalars[1].root_factor == kept.root_factor);
}

TEST_CASE("step_state: what is not finite, and what has no target, changes nothing but the count of steps") {
    for (const double poison : {std::numeric_limits<double>::infinity(), std::numeric_limits<double>::quiet_NaN()}) {
        for (const bool loss : {true, false}) {
            step_under_way step;
            (loss ? step.state.losses.loss : step.state.squares) = poison;
            step.conclude();
            CHECK(step.state.apply == 0);
            CHECK(step.state.updates == 30);
            CHECK(step.state.keys.step == 41);
            CHECK(step.state.scale == ls::loss_scale{512, 0, true});
        }
    }
    step_under_way step;
    step.state.target_weight = 0;
    step.conclude();
    CHECK(step.state.apply == 0);
    CHECK(step.state.updates == 30);
    CHECK(step.state.keys.step == 41);
    CHECK(step.state.scale == ls::loss_scale{1024, 5, true});
}

TEST_CASE("step_state: a step one of whose streams left its range counts, and changes no parameter nor the loss scale") {
    step_under_way step;
    step.state.bad.stream = 17;
    const ls::loss_scale before = step.state.scale;
    step.conclude();
    CHECK(step.state.apply == 0);
    CHECK(step.state.keys.step == 41);
    CHECK(step.state.updates == 30);
    CHECK(step.state.scale == before);
}

TEST_CASE("step_state: a step that met an id outside the vocabulary was not taken") {
    for (ls::index ls::bad_ids::*which : {&ls::bad_ids::token, &ls::bad_ids::target}) {
        step_under_way step;
        step.state.bad.*which = 17;
        step.conclude();
        CHECK(step.state.apply == 0);
        CHECK(step.state.keys.step == 40);
        CHECK(step.state.updates == 30);
    }
}
