// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <string>
#include <vector>

#include <longspan/eval/sample.hpp>

#include "../model/configs.hpp"

namespace models {

namespace {

struct tiny {
    static constexpr decoder_shape shape{.layers = 1, .width = 8, .heads = 2, .hidden = 12, .vocabulary = 5, .context = 6};
    static constexpr auto attention = causal;
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = fp64;
    static constexpr auto batch = packed<7>;
};

/// Weights far from each other, so that some tokens are likelier than others.
void spread(trainer<tiny>& t) {
    for (double& w : t.store().part(t.store().weights(), "embedding.weight")) w *= 20;
}

std::string refusal_of(auto&& f) {
    try {
        f();
    } catch (const bad_argument& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("sample: logits are those that the loss is computed from, of the last context") {
    trainer<tiny> t{seed{3}};
    spread(t);
    const std::vector<token_id> text{4, 0, 1, 3, 3, 2, 1, 4};  // two more than the context
    const std::vector<double> logits = next_token_logits<tiny>(t, text);
    REQUIRE(logits.size() == 5);
    double sum = 0;
    for (const double l : logits) sum += std::exp(l);

    token_batch batch = batch_of({6}, 5, 1, 7, tiny::batch.max_pieces);
    std::copy(text.end() - 6, text.end(), batch.tokens.begin());
    for (token_id next = 0; next < 5; ++next) {
        std::fill(batch.targets.begin(), batch.targets.end(), ignored_target);
        batch.targets[5] = next;
        CHECK(t.evaluate(batch) == doctest::Approx(std::log(sum) - logits[static_cast<std::size_t>(next)]).epsilon(1e-12));
    }
    CHECK(t.memory().high_water() <= plan<tiny, host::cpu>.peak());
    CHECK(next_token_logits<tiny>(t, std::vector<token_id>(text.end() - 6, text.end())) == logits);
    CHECK(next_token_logits<tiny>(t, std::vector<token_id>(text.end() - 5, text.end())) != logits);
}

TEST_CASE("sample: the same seed draws the same text, another one another; at temperature 0 the likeliest") {
    trainer<tiny> t{seed{3}};
    spread(t);
    const auto draw = [&](sampling how) { return continue_tokens<tiny>(t, {1, 2}, how); };
    const auto first = draw({.count = 40, .temperature = 1, .seed = 5});
    CHECK(first.size() == 40);
    CHECK(first == draw({.count = 40, .temperature = 1, .seed = 5}));
    CHECK(first != draw({.count = 40, .temperature = 1, .seed = 6}));
    // A shorter text is the beginning of a longer one.
    CHECK(draw({.count = 10, .temperature = 1, .seed = 5}) == std::vector(first.begin(), first.begin() + 10));

    std::vector<token_id> text{1, 2};
    for (const token_id chosen : draw({.count = 20, .temperature = 0, .seed = 5})) {
        const auto logits = next_token_logits<tiny>(t, text);
        CHECK(chosen == std::max_element(logits.begin(), logits.end()) - logits.begin());
        text.push_back(chosen);
    }
    CHECK(draw({.count = 20, .temperature = 0, .seed = 5}) == draw({.count = 20, .temperature = 0, .seed = 6}));
    CHECK(draw({.count = 0}).empty());
}

TEST_CASE("sample: tokens come as often as the softmax says") {
    trainer<tiny> t{seed{3}};
    spread(t);
    const std::vector<double> logits = next_token_logits<tiny>(t, std::vector<token_id>{2});
    for (const double temperature : {0.5, 2.0}) {
        std::vector<double> expected(5), counted(5);
        double sum = 0, distance = 0;
        for (std::size_t v = 0; v < 5; ++v) sum += expected[v] = std::exp(logits[v] / temperature);
        constexpr int draws = 1000;
        for (std::uint64_t s = 0; s < draws; ++s) {
            ++counted[static_cast<std::size_t>(continue_tokens<tiny>(t, {2}, {.count = 1, .temperature = temperature, .seed = s})[0])];
        }
        for (std::size_t v = 0; v < 5; ++v) distance += std::pow(counted[v] - draws * expected[v] / sum, 2) / (draws * expected[v] / sum);
        CHECK(distance < 23);  // χ² of 4 degrees: once in 10,000
    }
}

TEST_CASE("sample: nothing to go on from, or nothing to draw from, is a sentence") {
    trainer<tiny> t{seed{3}};
    CHECK(refusal_of([&] { (void)continue_tokens<tiny>(t, {}, {}); }).find("expected at least one token") != std::string::npos);
    CHECK(refusal_of([&] { (void)continue_tokens<tiny>(t, {9}, {}); }).find("outside the vocabulary [0, 5)") != std::string::npos);
    CHECK(refusal_of([&] { (void)continue_tokens<tiny>(t, {1}, {.temperature = -1}); }).find("temperature") != std::string::npos);
    t.store().weights()[0] = std::numeric_limits<double>::quiet_NaN();
    CHECK(refusal_of([&] { (void)continue_tokens<tiny>(t, {0}, {}); }).find("not finite") != std::string::npos);
}

}  // namespace models
