// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/optim/adamw.hpp>

#include <cmath>
#include <limits>

namespace ls = longspan;

namespace {

struct entry {
    ls::index rows;
    bool decays;
};
constexpr entry projection{64, true}, table{256, false}, scale{1, false};

static_assert(ls::group_of(projection) == ls::decay_group::matrix);
static_assert(ls::group_of(table) == ls::decay_group::embedding);
static_assert(ls::group_of(scale) == ls::decay_group::vector);
static_assert(ls::adamw{}.check().weight_decay == 0.1);

}  // namespace

TEST_CASE("matrices decay; embeddings, norms and biases only when asked") {
    using enum ls::decay_group;
    constexpr ls::adamw usual{};
    CHECK(usual.decay_of(matrix) == 0.1);
    CHECK(usual.decay_of(embedding) == 0.0);
    CHECK(usual.decay_of(vector) == 0.0);
    constexpr ls::adamw all{.decay_embeddings = true, .decay_vectors = true};
    CHECK(all.decay_of(embedding) == 0.1);
    CHECK(all.decay_of(vector) == 0.1);
}

TEST_CASE("the scalars of an update are the paper's") {
    constexpr ls::adamw hyper{.beta1 = 0.9, .beta2 = 0.999, .weight_decay = 0.01};
    for (ls::index t : {1, 2, 10, 1000, 100'000}) {
        const auto update = ls::prepare(hyper, ls::decay_group::matrix, t, 0.1, 0.5);
        CHECK(update.kept == doctest::Approx(1.0 - 0.001));
        CHECK(update.step == doctest::Approx(0.1 / (1.0 - std::pow(0.9, double(t)))));
        CHECK(update.root_factor == doctest::Approx(1.0 / std::sqrt(1.0 - std::pow(0.999, double(t)))));
        CHECK(update.gradient_factor == 0.5);
    }
    CHECK(ls::prepare(hyper, ls::decay_group::vector, 1, 0.1, 1).kept == 1.0);
}

TEST_CASE("senseless hyper-parameters are a sentence") {
    using ls::adamw;
    using ls::bad_argument;
    CHECK_THROWS_WITH_AS(adamw{.beta1 = 1.0}.check(), "adamw: expected 0 <= beta1 < 1, got 1", bad_argument);
    CHECK_THROWS_WITH_AS(adamw{.beta2 = -0.5}.check(), "adamw: expected 0 <= beta2 < 1, got -0.5", bad_argument);
    CHECK_THROWS_WITH_AS(adamw{.epsilon = 0.0}.check(), "adamw: expected 0 < epsilon < 1, got 0", bad_argument);
    CHECK_THROWS_WITH_AS(adamw{.weight_decay = -1.0}.check(), "adamw: expected a weight_decay of at least 0, got -1",
                         bad_argument);
    CHECK_THROWS_WITH_AS(adamw{.weight_decay = std::numeric_limits<double>::quiet_NaN()}.check(),
                         "adamw: expected a weight_decay of at least 0, got nan", bad_argument);
    const auto of = [](ls::index update, double rate) {
        static_cast<void>(ls::prepare({}, ls::decay_group::matrix, update, rate, 1));
    };
    CHECK_THROWS_WITH_AS(of(0, 0.1), "adamw: updates are counted from 1, got 0", bad_argument);
    CHECK_THROWS_WITH_AS(of(1, -0.1), "adamw: expected a learning rate of at least 0, got -0.1", bad_argument);
}
