// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include <longspan/layer/head.hpp>
#include <longspan/model/shape.hpp>

#include "bench.hpp"

namespace layers {

namespace {

constexpr index tokens = 23, width = 6, vocabulary = 11;
constexpr decoder_shape shape{.layers = 1, .width = width, .heads = 1, .vocabulary = vocabulary, .context = tokens, .label_smoothing = 0.1,
                              .loss_chunk = 4, .token_chunk = 9};
using model = model_of<shape, uniform_precision<double>>;
using head = head_layer<model>;

struct ends {
    std::mt19937_64 random{1};
    bench<model> at{{{0, 0, 0}}, tokens, 1};
    std::vector<double> x = normals(tokens * width, random), norm = normals(table_size<head::parameter_table>(), random),
                        table = normals(vocabulary * width, random);
    std::vector<std::int32_t> targets = std::vector<std::int32_t>(tokens);
    std::vector<float> weights = std::vector<float>(tokens);
    head::goal goal;

    ends() {
        for (auto& t : targets) t = static_cast<std::int32_t>(random() % (vocabulary + 1)) - 1;
        for (auto& w : weights) w = 0.5f + static_cast<float>(random() % 4);
        goal = {.targets = targets.data(), .target_weights = weights.data()};
    }
    double evaluate(const std::vector<double>& x_, const std::vector<double>& norm_, const std::vector<double>& table_) {
        cross_entropy_sums sums;
        goal.sums = &sums;
        head::evaluate(at.context, head::weights(norm_.data()), {table_.data(), vocabulary, width}, goal, {x_.data(), tokens, width});
        return sums.loss;
    }
    struct gradients {
        double loss = 0;
        std::vector<double> x, norm, table;
    };
    gradients turn() {
        gradients g{0, std::vector<double>(x.size(), 99.0), std::vector<double>(norm.size()), std::vector<double>(table.size())};
        cross_entropy_sums sums;
        goal.sums = &sums;
        head::turn(at.context, head::weights(norm.data()), head::gradients(g.norm.data()), {table.data(), vocabulary, width},
                   {g.table.data(), vocabulary, width}, goal, {x.data(), tokens, width}, {g.x.data(), tokens, width});
        g.loss = sums.loss;
        return g;
    }
};

}  // namespace

TEST_CASE("head: the loss is the smoothed cross-entropy of the targets, weighted") {
    ends e;
    double expected = 0;
    for (index t = 0; t < tokens; ++t) {
        const auto at = static_cast<std::size_t>(t);
        if (e.targets[at] < 0) continue;
        double square = 0, logits[vocabulary] = {}, sum = 0, mean = 0;
        for (index c = 0; c < width; ++c) square += std::pow(e.x[static_cast<std::size_t>(t * width + c)], 2) / width;
        for (index v = 0; v < vocabulary; ++v) {
            for (index c = 0; c < width; ++c) {
                logits[v] += e.x[static_cast<std::size_t>(t * width + c)] / std::sqrt(square + 1e-5) * e.norm[static_cast<std::size_t>(c)] *
                             e.table[static_cast<std::size_t>(v * width + c)];
            }
            sum += std::exp(logits[v]);
            mean += logits[v] / vocabulary;
        }
        expected += static_cast<double>(e.weights[at]) * (std::log(sum) - 0.9 * logits[e.targets[at]] - 0.1 * mean);
    }
    CHECK(e.evaluate(e.x, e.norm, e.table) == doctest::Approx(expected).epsilon(1e-12));
}

TEST_CASE("head: a target that is none is named by its token, in whichever chunk it is") {
    ends e;
    e.targets[20] = vocabulary;
    std::string said;
    try {
        (void)e.turn();
    } catch (const bad_argument& refusal) {
        said = refusal.what();
    }
    CAPTURE(said);
    CHECK(said.find("at token 20") != std::string::npos);
}

TEST_CASE("head: turning gives the bits of evaluating, and the gradients of central differences") {
    ends e;
    const auto g = e.turn();
    CHECK(g.loss == e.evaluate(e.x, e.norm, e.table));
    const auto along_x = direction_for(g.x, e.random), along_norm = direction_for(g.norm, e.random), along_table = direction_for(g.table, e.random);
    CHECK(derivative([&](double s) { return e.evaluate(moved(e.x, along_x, s), e.norm, e.table); }) == doctest::Approx(dot(along_x, g.x)).epsilon(1e-6));
    CHECK(derivative([&](double s) { return e.evaluate(e.x, moved(e.norm, along_norm, s), e.table); }) ==
          doctest::Approx(dot(along_norm, g.norm)).epsilon(1e-6));
    CHECK(derivative([&](double s) { return e.evaluate(e.x, e.norm, moved(e.table, along_table, s)); }) ==
          doctest::Approx(dot(along_table, g.table)).epsilon(1e-6));
}

TEST_CASE("head: the scale is the gradients', not the loss's; each target's own loss is written") {
    ends e;
    std::vector<double> losses(tokens, -1.0);
    const auto once = e.turn();
    const float scale = 1024;
    e.goal.scale = &scale;
    e.goal.token_losses = losses.data();
    const auto scaled = e.turn();
    CHECK(scaled.loss == once.loss);
    for (std::size_t i = 0; i < once.x.size(); ++i) CHECK_FALSE(std::abs(scaled.x[i] - 1024 * once.x[i]) > 1e-9);
    double sum = 0;
    for (std::size_t t = 0; t < losses.size(); ++t) {
        CHECK((losses[t] > 0) == (e.targets[t] >= 0));
        sum += losses[t] * static_cast<double>(e.weights[t]);
    }
    CHECK(sum == doctest::Approx(once.loss).epsilon(1e-12));
}

TEST_CASE("head: an untied one has a projection of its own, which decays") {
    constexpr decoder_shape own = [] {
        auto s = shape;
        s.tied = false;
        return s;
    }();
    using untied = head_layer<model_of<own, uniform_precision<double>>>;
    CHECK(table_parameters<head::parameter_table>() == width);
    CHECK(table_parameters<untied::parameter_table>() == width + vocabulary * width);
    CHECK(untied::parameter_table::list[2].decays);
}

}  // namespace layers
