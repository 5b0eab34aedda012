// SPDX-License-Identifier: Apache-2.0
//
// Whole decoders in double: the gradient of every parameter tensor against central differences of the loss, with dropout and
// stochastic depth on (draws are keyed by the step, so both evaluations see the same ones).
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>

#include "../sanitized.hpp"
#include "configs.hpp"

namespace models {
namespace {

template <class Config>
void check_gradients(std::uint64_t data_seed) {
    trainer<Config> t{seed{data_seed}};
    const token_batch batch = odd_batch(Config::shape.vocabulary, data_seed);
    auto weights = t.store().weights();
    using layout_type = parameter_layout<model_of_config<Config>>;
    std::mt19937_64 random(data_seed);
    std::normal_distribution<double> normal;
    // Away from the initial ones and zeros, where a wrong norm or bias would not show.
    layout_type::for_each([&](const std::string&, const parameter& p, index offset) {
        for (index i = 0; i < p.size(); ++i) weights[static_cast<std::size_t>(offset + i)] += 0.1 * normal(random);
    });
    const std::vector<double> at(weights.begin(), weights.end());

    t.accumulate_gradients(batch);
    const auto sums = t.store().gradients();
    const std::vector<double> gradient(sums.begin(), sums.end());
    index tensors = 0;
    layout_type::for_each([&](const std::string& name, const parameter& p, index offset) {
        if (test::sanitized && tensors++ % 4 != 0) return;
        const auto element = [&](index i) { return static_cast<std::size_t>(offset + i); };
        double norm = 0;
        for (index i = 0; i < p.size(); ++i) norm += gradient[element(i)] * gradient[element(i)];
        norm = std::sqrt(norm);
        CAPTURE(name);
        REQUIRE(norm > 0);
        // Half along the gradient, half at random: the derivative is large, and every element counts.
        std::vector<double> along(static_cast<std::size_t>(p.size()));
        double expected = 0;
        for (index i = 0; i < p.size(); ++i) {
            double& u = along[static_cast<std::size_t>(i)];
            u = gradient[element(i)] / norm + normal(random) / std::sqrt(static_cast<double>(p.size()));
            expected += u * gradient[element(i)];
        }
        const double h = 1e-5;
        const auto loss_at = [&](double step) {
            for (index i = 0; i < p.size(); ++i) weights[element(i)] = at[element(i)] + step * along[static_cast<std::size_t>(i)];
            return t.accumulate_gradients(batch);
        };
        // Richardson: the error of the central difference falls from h² to h⁴.
        const double near = (loss_at(h) - loss_at(-h)) / (2 * h), far = (loss_at(2 * h) - loss_at(-2 * h)) / (4 * h);
        const double measured = (4 * near - far) / 3;
        for (index i = 0; i < p.size(); ++i) weights[element(i)] = at[element(i)];
        CHECK(measured == doctest::Approx(expected).epsilon(1e-6));
    });
}

}  // namespace

TEST_CASE("gradients: Llama's shape, local and global keys") { check_gradients<config<llama, local, store_all, fp64>>(3); }
TEST_CASE("gradients: GPT-2's shape, full causal") { check_gradients<config<gpt2, causal, store_all, fp64>>(4); }
TEST_CASE("gradients: every option of attention at once") { check_gradients<config<rich, causal & window<40>, store_all, fp64>>(5); }
TEST_CASE("gradients: ALiBi and GELU, layers with patterns of their own") {
    check_gradients<config<slopes, stack<causal & window<10>, global<2>>, store_all, fp64>>(6);
}
TEST_CASE("gradients: two streams, every option of attention, dropout everywhere, by reversal") {
    constexpr decoder_shape paired = [] {
        decoder_shape s = rich;
        s.residual = residual_kind::two_streams, s.token_chunk = 50, s.key_value_heads = 2, s.head_group = 1;
        return s;
    }();
    check_gradients<config<paired, causal & window<40>, reversible, fp64>>(8);
}

namespace {

constexpr decoder_shape eight_heads(index group) {
    return {.layers = 4, .width = 64, .heads = 8, .key_value_heads = 4, .head_width = 16, .hidden = 96, .vocabulary = 61, .context = context,
            .residual = residual_kind::two_streams, .loss_chunk = 50, .token_chunk = 40, .head_group = group};
}

}  // namespace

TEST_CASE("gradients: two groups of heads in mixed<bf16> are as near to double as all heads at once") {
    double far = 0, whole_far = 0;
    for (std::uint64_t i = 0; i < 6; ++i) {
        trainer<config<eight_heads(0), local, store_all, fp64>> exact{seed{5 + i}};
        trainer<config<eight_heads(0), local, store_all, mixed<bf16>>> whole{seed{5 + i}};
        trainer<config<eight_heads(2), local, store_all, mixed<bf16>>> grouped{seed{5 + i}};
        // The weights as bf16 holds them, so that rounding them is nobody's error.
        std::transform(whole.store().weights().begin(), whole.store().weights().end(), exact.store().weights().begin(),
                       [](bf16 w) { return static_cast<double>(to_compute(w)); });
        const token_batch batch = odd_batch(61, 11 + i);
        exact.accumulate_gradients(batch), whole.accumulate_gradients(batch), grouped.accumulate_gradients(batch);
        const auto truth = exact.store().gradients();
        for (std::size_t k = 0; k < truth.size(); ++k) {
            far += std::pow(static_cast<double>(grouped.store().gradients()[k]) - truth[k], 2);
            whole_far += std::pow(static_cast<double>(whole.store().gradients()[k]) - truth[k], 2);
        }
    }
    MESSAGE("error of gradients by groups over that of all heads at once: " << std::sqrt(far / whole_far));
    CHECK(std::sqrt(far) <= 1.05 * std::sqrt(whole_far));
}
TEST_CASE("gradients: sinusoidal positions, an untied head, every key") { check_gradients<config<waves, full, store_all, fp64>>(7); }

}  // namespace models
