// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/host/adamw.hpp>
#include <longspan/optim/adamw.hpp>

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <span>
#include <vector>

namespace ls = longspan;

namespace {

template <class T>
struct state {
    std::vector<T> masters, first, second;

    explicit state(ls::index n, unsigned seed = 7) : masters(std::size_t(n)), first(std::size_t(n)), second(std::size_t(n)) {
        std::mt19937 engine(seed);
        std::normal_distribution<double> normal;
        for (T& p : masters) p = T(normal(engine));
    }
};

template <class T>
std::vector<T> gradients_of(ls::index n, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<T> g(static_cast<std::size_t>(n));
    for (T& x : g) x = T(normal(engine) * std::exp(3 * normal(engine)));
    return g;
}

template <class T>
void step(state<T>& s, const std::vector<T>& g, const ls::adamw_update& update) {
    ls::host::adamw_step(std::span<T>(s.masters), std::span<T>(), g, s.first, s.second, update);
}

// The published algorithm in plain loops, in double.
void reference_step(state<double>& s, const std::vector<double>& sums, const ls::adamw& h, double rate, double decay, int t,
                    double factor) {
    for (std::size_t i = 0; i < sums.size(); ++i) {
        const double g = sums[i] * factor;
        s.first[i] = h.beta1 * s.first[i] + (1 - h.beta1) * g;
        s.second[i] = h.beta2 * s.second[i] + (1 - h.beta2) * g * g;
        const double m = s.first[i] / (1 - std::pow(h.beta1, t)), v = s.second[i] / (1 - std::pow(h.beta2, t));
        s.masters[i] = s.masters[i] - rate * decay * s.masters[i] - rate * m / (std::sqrt(v) + h.epsilon);
    }
}

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

// Around a pack's 16 lanes and a chunk's 16,384 elements.
constexpr ls::index sizes[] = {1, 7, 8, 9, 15, 16, 17, 35, 16'383, 16'384, 16'385, 32'771};

}  // namespace

TEST_CASE("three updates give the values computed by hand in 40 digits") {
    // p = 1, gradients 0.5, -0.25, 2; beta 0.9 and 0.999, epsilon 1e-8, rate 0.1, decay 0.01.
    constexpr ls::adamw hyper{.beta1 = 0.9, .beta2 = 0.999, .epsilon = 1e-8, .weight_decay = 0.01};
    const double sums[] = {0.5, -0.25, 2.0};
    const double expected[] = {0.89900000199999996, 0.87146729870584616, 0.80353106722844706};
    state<double> s(1);
    s.masters[0] = 1;
    for (ls::index t = 1; t <= 3; ++t) {
        step(s, {4 * sums[t - 1]}, ls::prepare(hyper, ls::decay_group::matrix, t, 0.1, 0.25));
        CHECK(std::abs(s.masters[0] - expected[t - 1]) < 1e-15);
    }
    CHECK(s.first[0] == doctest::Approx(0.218).epsilon(1e-14));
    CHECK(s.second[0] == doctest::Approx(0.00431193775).epsilon(1e-14));
}

TEST_CASE_TEMPLATE("updates follow the published algorithm", T, float, double) {
    constexpr ls::adamw hyper{};
    const double tolerance = std::is_same_v<T, float> ? 4e-6 : 1e-13;
    for (ls::index n : sizes) {
        state<T> s(n);
        state<double> expected(0);
        expected.masters.assign(s.masters.begin(), s.masters.end());
        expected.first.resize(std::size_t(n));
        expected.second.resize(std::size_t(n));
        for (int t = 1; t <= 4; ++t) {
            const auto g = gradients_of<T>(n, unsigned(t));
            const auto group = t % 2 ? ls::decay_group::matrix : ls::decay_group::vector;
            step(s, g, ls::prepare(hyper, group, t, 0.01 * t, 0.125));
            reference_step(expected, {g.begin(), g.end()}, hyper, 0.01 * t, hyper.decay_of(group), t, 0.125);
        }
        double worst = 0;
        for (std::size_t i = 0; i < std::size_t(n); ++i)
            worst = std::max(worst, std::abs(double(s.masters[i]) - expected.masters[i]) / (1 + std::abs(expected.masters[i])));
        CHECK(worst < tolerance);
    }
}

TEST_CASE_TEMPLATE("the stored copy is the master, rounded once", Weight, ls::bf16, ls::fp16, float) {
    for (ls::index n : sizes) {
        state<float> alone(n), copied(n);
        const auto g = gradients_of<float>(n, 3);
        const auto update = ls::prepare({}, ls::decay_group::matrix, 1, 0.01, 1);
        std::vector<Weight> weights(std::size_t(n) + 1);
        const Weight guard = ls::from_compute<Weight>(123.0F);
        weights.back() = guard;
        step(alone, g, update);
        ls::host::adamw_step(std::span(copied.masters), std::span(weights).first(std::size_t(n)), g, copied.first,
                             copied.second, update);
        CHECK(same_bits(alone.masters, copied.masters));
        bool rounded = true;
        for (std::size_t i = 0; i < std::size_t(n); ++i)
            rounded = rounded && ls::to_compute(weights[i]) == ls::to_compute(ls::from_compute<Weight>(copied.masters[i]));
        CHECK(rounded);
        CHECK(ls::to_compute(weights.back()) == 123.0F);
    }
}

TEST_CASE("an element's bits depend neither on its place nor on the threads") {
    const ls::index n = 40'000;
    const auto g = gradients_of<float>(n, 5);
    const auto update = ls::prepare({}, ls::decay_group::matrix, 3, 0.01, 0.5);
    state<float> whole(n), parts(n);
    for (auto* s : {&whole, &parts}) s->second.assign(std::size_t(n), 0.5F);
    step(whole, g, update);
    for (std::size_t at = 0, length = 1; at < std::size_t(n); at += length, length = length * 3 + 1) {
        length = std::min(length, std::size_t(n) - at);
        ls::host::adamw_step(std::span(parts.masters).subspan(at, length), std::span(parts.masters).subspan(at, length),
                             std::span(g).subspan(at, length), std::span(parts.first).subspan(at, length),
                             std::span(parts.second).subspan(at, length), update);
    }
    CHECK(same_bits(whole.masters, parts.masters));
    CHECK(same_bits(whole.first, parts.first));
    CHECK(same_bits(whole.second, parts.second));
#if defined(_OPENMP)
    const int before = omp_get_max_threads();
    for (int threads : {1, 2, 3}) {
        omp_set_num_threads(threads);
        state<float> again(n);
        again.second.assign(std::size_t(n), 0.5F);
        step(again, g, update);
        CHECK(same_bits(whole.masters, again.masters));
    }
    omp_set_num_threads(before);
#endif
}

TEST_CASE("a parameter without gradient stays, up to decay") {
    state<float> s(33);
    const auto start = s.masters;
    step(s, std::vector<float>(33), ls::prepare({}, ls::decay_group::vector, 1, 0.1, 1));
    CHECK(same_bits(s.masters, start));
    step(s, std::vector<float>(33), ls::adamw_update{});
    CHECK(same_bits(s.masters, start));
}

TEST_CASE("spans of unequal lengths are refused before anything changes") {
    state<float> s(4);
    const auto start = s.masters;
    CHECK_THROWS_WITH_AS(step(s, std::vector<float>(3, 1.0F), ls::prepare({}, ls::decay_group::matrix, 1, 0.1, 1)),
                         "adamw_step: expected spans of one length, got 4 masters, 0 weights, 3 gradients, 4 and 4 moments",
                         ls::bad_argument);
    CHECK(same_bits(s.masters, start));
}
