// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <longspan/host/loss.hpp>

#include "buffers.hpp"

namespace longspan {

using host::cross_entropy_options;
using test::matrix;

namespace {

/// A workspace of exactly the bytes asked for, with a guard behind it.
template <class T>
class exact_workspace {
public:
    exact_workspace(index chunk, index vocabulary)
        : bytes_(static_cast<std::size_t>(host::cross_entropy_workspace<T>(chunk, vocabulary))),
          memory_(bytes_ / 8 + 10, guard) {}
    [[nodiscard]] std::span<std::byte> span() { return {reinterpret_cast<std::byte*>(memory_.data()), bytes_}; }
    [[nodiscard]] bool intact() const {
        double expected = guard;
        const auto* const end = reinterpret_cast<const std::byte*>(memory_.data()) + bytes_;
        // The guard starts inside a word where the workspace ends inside one.
        const auto* const whole = reinterpret_cast<const std::byte*>(memory_.data() + (bytes_ + 7) / 8);
        bool same = std::memcmp(end, reinterpret_cast<const std::byte*>(&expected) + (8 - (whole - end)) % 8,
                                static_cast<std::size_t>(whole - end)) == 0;
        for (const auto* at = whole; at < whole + 64; at += 8) same = same && std::memcmp(at, &expected, 8) == 0;
        return same;
    }

private:
    static constexpr double guard = -7.25e77;
    std::size_t bytes_;
    std::vector<double> memory_;
};

struct problem {
    index t, c, v;
    std::vector<std::int32_t> targets;
    std::vector<float> weights;
    double smoothing = 0, scale = 1;

    problem(std::mt19937& generator, index tokens, index width, index vocabulary, double ignored)
        : t(tokens), c(width), v(vocabulary) {
        std::uniform_real_distribution<double> uniform;
        std::uniform_int_distribution<int> word(0, static_cast<int>(v - 1));
        for (index i = 0; i < t; ++i) {
            targets.push_back(uniform(generator) < ignored ? -1 : word(generator));
            weights.push_back(static_cast<float>(2 * uniform(generator)));
        }
        if (uniform(generator) < 0.5) smoothing = 0.3 * uniform(generator);
        if (uniform(generator) < 0.5) scale = 1 + uniform(generator);
    }
    [[nodiscard]] cross_entropy_options options() const {
        return {.smoothing = smoothing, .scale = scale, .token_weights = weights.data()};
    }
};

/// Everything from the definition, in double. x and w are read as stored.
struct reference {
    double loss = 0;
    std::vector<double> token_losses, dx, dw;

    template <class X, class W>
    reference(const problem& p, matrix<X>& x, matrix<W>& w)
        : token_losses(static_cast<std::size_t>(p.t)),
          dx(static_cast<std::size_t>(p.t * p.c)),
          dw(static_cast<std::size_t>(p.v * p.c)) {
        std::vector<double> z(static_cast<std::size_t>(p.v));
        for (index t = 0; t < p.t; ++t) {
            const auto at = static_cast<std::size_t>(t);
            if (p.targets[at] < 0) continue;
            double sum = 0, total = 0;
            for (index i = 0; i < p.v; ++i) {
                double dot = 0;
                for (index k = 0; k < p.c; ++k) dot += x.value(t, k) * w.value(i, k);
                z[static_cast<std::size_t>(i)] = dot, sum += std::exp(dot), total += dot;
            }
            const double v = static_cast<double>(p.v), weight = static_cast<double>(p.weights[at]);
            token_losses[at] =
                std::log(sum) - (1 - p.smoothing) * z[static_cast<std::size_t>(p.targets[at])] - p.smoothing * total / v;
            loss += weight * token_losses[at];
            for (index i = 0; i < p.v; ++i) {
                const double hit = i == p.targets[at] ? 1 - p.smoothing : 0;
                const double dz = weight * p.scale * (std::exp(z[static_cast<std::size_t>(i)]) / sum - hit - p.smoothing / v);
                for (index k = 0; k < p.c; ++k) {
                    dx[static_cast<std::size_t>(t * p.c + k)] += dz * w.value(i, k);
                    dw[static_cast<std::size_t>(i * p.c + k)] += dz * x.value(t, k);
                }
            }
        }
    }
};

double largest(const std::vector<double>& values) {
    double most = 0;
    for (const double x : values) most = std::max(most, std::abs(x));
    return most;
}

}  // namespace

TEST_CASE("gradients agree with central differences in double, 240 random shapes") {
    std::mt19937 generator(17);
    const auto pick = [&](int low, int high) { return index{std::uniform_int_distribution<int>(low, high)(generator)}; };
    index checked = 0, wrong = 0;
    for (int round = 0; round < 240; ++round) {
        // Every eighth is all ignored, some have no tokens, some a vocabulary of one word.
        problem p(generator, pick(0, 9), pick(1, 7), round % 16 == 3 ? 1 : pick(2, 37), round % 8 == 7 ? 1.0 : 0.3);
        const index chunk = pick(1, 10);
        exact_workspace<double> workspace(std::min(chunk, p.t), p.v);
        matrix<double> x(p.t, p.c), w(p.v, p.c), dx(p.t, p.c), dw(p.v, p.c);
        x.fill_random(generator), w.fill_random(generator), dw.fill_random(generator);
        matrix<double> before = dw;
        host::linear_cross_entropy_gradients(x.view(), w.view(), p.targets.data(), p.options(), chunk, dx.view(), dw.view(),
                                             workspace.span());
        const auto loss = [&] {
            return p.scale *
                   host::linear_cross_entropy(x.view(), w.view(), p.targets.data(), p.options(), chunk, workspace.span()).loss;
        };
        const auto compare = [&](matrix<double>& variable, index row, index column, double gradient) {
            constexpr double step = 1e-4;
            double& value = variable(row, column);
            const double kept = value;
            // Four points: the truncation error is of the fourth order.
            const auto at = [&](double offset) {
                value = kept + offset;
                return loss();
            };
            const double difference = (8 * (at(step) - at(-step)) - (at(2 * step) - at(-2 * step))) / (12 * step);
            value = kept;
            ++checked;
            wrong += !(std::abs(difference - gradient) <= 1e-6 * std::max(1e-3, std::abs(gradient)));
        };
        for (int i = 0; i < 10 && p.t > 0; ++i) {
            const index row = pick(0, static_cast<int>(p.t - 1)), column = pick(0, static_cast<int>(p.c - 1));
            compare(x, row, column, dx(row, column));
        }
        for (int i = 0; i < 10; ++i) {
            const index row = pick(0, static_cast<int>(p.v - 1)), column = pick(0, static_cast<int>(p.c - 1));
            compare(w, row, column, dw(row, column) - before(row, column));
        }
        CHECK((dx.intact() && dw.intact() && workspace.intact()));
    }
    CHECK(wrong == 0);
    CHECK(checked > 4000);
}

TEST_CASE_TEMPLATE("sums, token losses and gradients agree with the definition in double", T, float, double, bf16, fp16) {
    using G = compute_t<T>;
    std::mt19937 generator(23);
    const double epsilon = format<T>::epsilon;
    for (const index v : {1, 15, 16, 17, 257, 1024, 1025, 2061}) {
        for (const index t : {1, 12, 13, 27}) {
            problem p(generator, t, 31, v, 0.25);
            const index chunk = t == 27 ? 12 : t;  // two whole chunks and a splinter
            exact_workspace<T> workspace(chunk, v);
            matrix<T> x(t, p.c), w(v, p.c), dx(t, p.c);
            matrix<G> dw(v, p.c);
            x.fill_random(generator), w.fill_random(generator, 0.3), dw.fill_random(generator);
            matrix<G> before = dw;
            std::vector<double> token_losses(static_cast<std::size_t>(t), -1);
            cross_entropy_options options = p.options();
            options.token_losses = token_losses.data();
            const cross_entropy_sums sums = host::linear_cross_entropy_gradients(x.view(), w.view(), p.targets.data(), options,
                                                                                 chunk, dx.view(), dw.view(), workspace.span());
            const reference want(p, x, w);
            CAPTURE(v);
            CAPTURE(t);
            CHECK(std::abs(sums.loss - want.loss) <= format<G>::epsilon * 20 * (1 + want.loss));
            double weight = 0;
            index targets = 0, wrong = 0;
            // A probability inherits its logit's error (31 products); p - 1 may cancel to nothing; dw stood at up to 4 before.
            const double relative = std::is_same_v<T, G> ? 64 * epsilon : 4 * epsilon;
            const double dx_bound = relative * largest(want.dx) + 32 * format<G>::epsilon;
            const double dw_bound = relative * largest(want.dw) + 32 * format<G>::epsilon;
            for (index i = 0; i < t; ++i) {
                const auto at = static_cast<std::size_t>(i);
                if (p.targets[at] >= 0) weight += static_cast<double>(p.weights[at]), ++targets;
                wrong += !(std::abs(token_losses[at] - want.token_losses[at]) <=
                           format<G>::epsilon * 20 * (1 + want.token_losses[at]));
                for (index k = 0; k < p.c; ++k)
                    wrong += !(std::abs(dx.value(i, k) - want.dx[static_cast<std::size_t>(i * p.c + k)]) <= dx_bound);
            }
            for (index i = 0; i < v; ++i)
                for (index k = 0; k < p.c; ++k)
                    wrong += !(std::abs(dw.value(i, k) - before.value(i, k) - want.dw[static_cast<std::size_t>(i * p.c + k)]) <=
                               dw_bound);
            CHECK(wrong == 0);
            CHECK(sums.weight == doctest::Approx(weight).epsilon(1e-12));
            CHECK(sums.targets == targets);
            CHECK((dx.intact() && dw.intact() && workspace.intact()));
        }
    }
}

TEST_CASE_TEMPLATE("threads, a second run and evaluation give the same bits; chunks change only the order of dw", T, float,
                   bf16) {
    const test::threads_restored restored;
    std::mt19937 generator(29);
    problem p(generator, 61, 40, 517, 0.2);
    matrix<T> x(p.t, p.c), w(p.v, p.c);
    x.fill_random(generator), w.fill_random(generator, 0.3);
    std::vector<matrix<T>> dx;
    std::vector<matrix<float>> dw;
    std::vector<double> losses;
    for (const index chunk : {16, 61}) {
        const std::size_t first_of_chunk = dw.size();
        for (const int threads : {1, 1, 2, 3}) {
            test::use_threads(threads);
            exact_workspace<T> workspace(chunk, p.v);
            dx.emplace_back(p.t, p.c), dw.emplace_back(p.v, p.c);
            dw.back().fill_random(generator, 0);
            const auto sums = host::linear_cross_entropy_gradients(x.view(), w.view(), p.targets.data(), p.options(), chunk,
                                                                   dx.back().view(), dw.back().view(), workspace.span());
            const auto evaluated =
                host::linear_cross_entropy(x.view(), w.view(), p.targets.data(), p.options(), chunk, workspace.span());
            losses.push_back(sums.loss);
            CHECK(sums.loss == losses.front());
            CHECK(evaluated.loss == losses.front());
            CHECK(evaluated.weight == sums.weight);
            CHECK(dx.back().same_bits(dx.front()));
            CHECK(dw.back().same_bits(dw[first_of_chunk]));
        }
    }
}

TEST_CASE("a chunk without targets is not looked at, and its rows of dx are zero") {
    std::mt19937 generator(31);
    problem p(generator, 10, 5, 9, 0);
    for (std::size_t i = 4; i < 8; ++i) p.targets[i] = -1;
    p.targets[1] = -1;
    matrix<float> x(p.t, p.c), w(p.v, p.c), dx(p.t, p.c), dw(p.v, p.c);
    x.fill_random(generator), w.fill_random(generator), dw.fill_random(generator);
    for (index t = 4; t < 8; ++t) x(t, 2) = test::poison<float>();
    exact_workspace<float> workspace(4, p.v);
    const auto sums = host::linear_cross_entropy_gradients(x.view(), w.view(), p.targets.data(), p.options(), 4, dx.view(),
                                                           dw.view(), workspace.span());
    CHECK(sums.targets == 5);
    CHECK(std::isfinite(sums.loss));
    index bad = 0;
    for (index t = 0; t < p.t; ++t)
        for (index k = 0; k < p.c; ++k)
            bad += p.targets[static_cast<std::size_t>(t)] < 0 ? dx(t, k) != 0 : !std::isfinite(dx(t, k));
    for (index i = 0; i < p.v; ++i)
        for (index k = 0; k < p.c; ++k) bad += !std::isfinite(dw(i, k));
    CHECK(bad == 0);
}

TEST_CASE("logits of any size: far from zero, far apart, and not finite") {
    matrix<float> x(3, 1), w(20, 1), dx(3, 1), dw(20, 1);
    for (index i = 0; i < 20; ++i) w(i, 0) = static_cast<float>(i), dw(i, 0) = 0;
    x(0, 0) = 1000.0f, x(1, 0) = -3000.0f, x(2, 0) = 0.0f;
    const std::int32_t targets[] = {19, 19, 3};
    std::vector<double> losses(3);
    exact_workspace<float> workspace(3, 20);
    const cross_entropy_options options{.token_losses = losses.data()};
    host::linear_cross_entropy_gradients(x.view(), w.view(), targets, options, 3, dx.view(), dw.view(), workspace.span());
    CHECK(losses[0] == 0.0);
    CHECK(losses[1] == doctest::Approx(57000.0));
    CHECK(losses[2] == doctest::Approx(std::log(20.0)).epsilon(1e-12));
    CHECK(dx(0, 0) == 0.0f);
    CHECK(dx(1, 0) == doctest::Approx(-19.0));
    x(1, 0) = test::poison<float>();
    CHECK(std::isnan(host::linear_cross_entropy(x.view(), w.view(), targets, options, 3, workspace.span()).loss));
    CHECK((!std::isnan(losses[0]) && std::isnan(losses[1])));
}

TEST_CASE_TEMPLATE("low precision is as accurate as rounding the same tensors and summing in float", T, bf16, fp16) {
    std::mt19937 generator(37);
    problem p(generator, 40, 64, 300, 0.1);
    p.smoothing = 0.1, p.scale = std::is_same_v<T, fp16> ? 1024 : 1;
    matrix<double> exact_x(p.t, p.c), exact_w(p.v, p.c);
    exact_x.fill_random(generator), exact_w.fill_random(generator, 0.2);
    matrix<T> x(p.t, p.c), w(p.v, p.c), dx(p.t, p.c);
    matrix<float> dw(p.v, p.c);
    dw.fill_random(generator, 0);
    const auto round_matrix = [](matrix<double>& from, matrix<T>& to, index rows, index columns) {
        for (index r = 0; r < rows; ++r)
            for (index c = 0; c < columns; ++c) to(r, c) = T(static_cast<float>(from(r, c)));
    };
    round_matrix(exact_x, x, p.t, p.c), round_matrix(exact_w, w, p.v, p.c);
    exact_workspace<T> workspace(p.t, p.v);
    host::linear_cross_entropy_gradients(x.view(), w.view(), p.targets.data(), p.options(), p.t, dx.view(), dw.view(),
                                         workspace.span());

    // The unfused computation: logits and softmax in float, dz rounded to T, products summed in float.
    std::vector<float> plain_dx(static_cast<std::size_t>(p.t * p.c)), plain_dw(static_cast<std::size_t>(p.v * p.c));
    std::vector<float> z(static_cast<std::size_t>(p.v));
    for (index t = 0; t < p.t; ++t) {
        const auto at = static_cast<std::size_t>(t);
        if (p.targets[at] < 0) continue;
        float sum = 0;
        for (index i = 0; i < p.v; ++i) {
            float dot = 0;
            for (index k = 0; k < p.c; ++k) dot += static_cast<float>(x(t, k)) * static_cast<float>(w(i, k));
            z[static_cast<std::size_t>(i)] = std::exp(dot), sum += z[static_cast<std::size_t>(i)];
        }
        for (index i = 0; i < p.v; ++i) {
            const float smoothing = static_cast<float>(p.smoothing), hit = i == p.targets[at] ? 1 - smoothing : 0;
            const T dz(p.weights[at] * static_cast<float>(p.scale) *
                       (z[static_cast<std::size_t>(i)] / sum - hit - smoothing / static_cast<float>(p.v)));
            for (index k = 0; k < p.c; ++k) {
                plain_dx[static_cast<std::size_t>(t * p.c + k)] += static_cast<float>(dz) * static_cast<float>(w(i, k));
                plain_dw[static_cast<std::size_t>(i * p.c + k)] += static_cast<float>(dz) * static_cast<float>(x(t, k));
            }
        }
    }
    const reference want(p, exact_x, exact_w);
    double ours = 0, plain = 0, ours_w = 0, plain_w = 0;
    for (index i = 0; i < p.t * p.c; ++i) {
        const auto at = static_cast<std::size_t>(i);
        ours += std::pow(dx.value(i / p.c, i % p.c) - want.dx[at], 2);
        plain += std::pow(static_cast<double>(static_cast<float>(T(plain_dx[at]))) - want.dx[at], 2);
    }
    for (index i = 0; i < p.v * p.c; ++i) {
        const auto at = static_cast<std::size_t>(i);
        ours_w += std::pow(dw.value(i / p.c, i % p.c) - want.dw[at], 2);
        plain_w += std::pow(static_cast<double>(plain_dw[at]) - want.dw[at], 2);
    }
    MESSAGE("RMS error relative to the unfused computation: dx ", std::sqrt(ours / plain), ", dw ",
            std::sqrt(ours_w / plain_w));
    CHECK(std::sqrt(ours) <= 1.05 * std::sqrt(plain));
    CHECK(std::sqrt(ours_w) <= 1.05 * std::sqrt(plain_w));
}

TEST_CASE("a target outside the vocabulary is named, and so are the other mistakes") {
    matrix<float> x(3, 4), w(10, 4);
    std::mt19937 generator(1);
    x.fill_random(generator), w.fill_random(generator);
    std::int32_t targets[] = {0, 9, 10};
    exact_workspace<float> workspace(3, 10);
    const auto run = [&](cross_entropy_options options, index chunk, std::span<std::byte> memory) {
        return host::linear_cross_entropy(x.view(), w.view(), targets, options, chunk, memory);
    };
    CHECK_THROWS_WITH_AS(run({}, 3, workspace.span()),
                         "linear_cross_entropy: expected a target of -1 (ignored) or of 0 to 9, got 10 at token 2",
                         bad_argument);
    targets[2] = -2;
    CHECK_THROWS_WITH_AS(run({}, 3, workspace.span()),
                         "linear_cross_entropy: expected a target of -1 (ignored) or of 0 to 9, got -2 at token 2",
                         bad_argument);
    targets[2] = -1;
    CHECK(run({}, 3, workspace.span()).targets == 2);
    CHECK_THROWS_WITH_AS(run({}, 0, workspace.span()), "linear_cross_entropy: expected a chunk of at least 1 token, got 0",
                         bad_argument);
    CHECK_THROWS_AS(run({.smoothing = 1.0}, 3, workspace.span()), bad_argument);
    CHECK_THROWS_AS(run({.smoothing = std::nan("")}, 3, workspace.span()), bad_argument);
    CHECK_THROWS_WITH_AS(
        run({}, 3, workspace.span().first(143)),
        "linear_cross_entropy: expected a workspace of 144 bytes aligned to 8 (cross_entropy_workspace), got 143",
        bad_argument);
    static_assert(host::cross_entropy_workspace<float>(512, 50304) == 512 * 50304 * 4 + 512 * 8);
    static_assert(host::cross_entropy_workspace<bf16>(512, 50304) == host::cross_entropy_workspace<float>(512, 50304));
    static_assert(host::cross_entropy_workspace<double>(512, 50304) == 512 * 50304 * 8 + 512 * 8);
}

}  // namespace longspan
