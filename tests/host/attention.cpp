// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tuple>

#include <longspan/host/attention.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>
#include <longspan/pattern/strided.hpp>

#include "attention_reference.hpp"
#include "central_differences.hpp"

namespace longspan {

using host::attention;
using host::attention_segment;
using host::score;
using test::attention_outputs;
using test::attention_problem;
using test::attention_results;
using test::matrix;

namespace {

constexpr auto local = causal & (window<40> | first<3>);
constexpr auto prefix_lm = causal | prefix;
constexpr auto dilated_causal = causal & dilated_window<7, 5>;

/// Run-time values of a pattern; prefixes for up to 64 documents.
template <class P>
typename P::arguments arguments_for() {
    static constexpr index prefixes[64] = {5, 0, 33, 1, 100, 2, 0, 64, 7, 31, 32, 96};
    if constexpr (std::is_same_v<P, pattern_of<prefix_lm>>) return {prefixes};
    else return {};
}

/// Both directions against the definition; errors relative to the largest value of each result.
template <class Problem, class T>
void check(Problem& p, double tolerance) {
    const attention_results want = p.reference();
    attention_outputs<Problem, T> got(p);
    got.both(p);
    CHECK(relative_error(got.out, want.out) <= tolerance);
    CHECK(relative_error(got.lse, want.lse, 1.0) <= tolerance);
    CHECK(relative_error(got.dq, want.dq, 1.0) <= tolerance);  // one key: nothing but cancellation
    CHECK(relative_error(got.dk, want.dk, 1.0) <= tolerance);
    CHECK(relative_error(got.dv, want.dv) <= tolerance);
    CHECK(got.intact());
}

/// Lengths of documents: around the edges of panels (32), tiles (96) and blocks (192), and nothing at all.
const std::vector<std::vector<index>> layouts{{1}, {0}, {31}, {32, 0, 33, 1}, {95, 96}, {97}, {191, 1}, {192}, {193}, {195, 0, 2}};

/// Gradients against central differences on `rounds` random small shapes. Every element of the score that is on, and all four
/// (or five) operands.
template <class P, index HeadDim, class Score>
void differences(int rounds, unsigned seed) {
    using problem = attention_problem<P, HeadDim, Score, double>;
    std::mt19937 generator(seed);
    const auto pick = [&](int low, int high) { return index{std::uniform_int_distribution<int>(low, high)(generator)}; };
    for (int round = 0; round < rounds; ++round) {
        std::vector<index> lengths;
        for (index left = pick(1, 3); left > 0; --left) lengths.push_back(pick(0, 9));
        if (round % 10 == 9) lengths.push_back(pick(95, 98));
        if (round % 3 == 0) lengths.push_back(round % 2);
        const index key_heads = pick(1, 2), heads = key_heads * pick(1, 2);
        problem p(generator, test::documents(lengths), heads, key_heads, arguments_for<P>(), 0.5);
        attention_outputs<problem, double> got(p), moved(p);
        got.both(p);
        const auto loss = [&] {
            moved.forward(p);
            return test::dot(moved.out, p.d_out);
        };
        CAPTURE(round);
        check_gradient("q", p.q, got.dq, generator, loss);
        check_gradient("k", p.k, got.dk, generator, loss);
        check_gradient("v", p.v, got.dv, generator, loss);
        if constexpr (Score::sink) {
            for (index h = 0; h < heads; ++h) {
                const auto at = static_cast<std::size_t>(h);
                const double kept = p.sinks[at];
                const auto difference = [&](double step) {
                    p.sinks[at] = kept + step;
                    const double up = loss();
                    p.sinks[at] = kept - step;
                    return (up - loss()) / (2 * step);
                };
                const double slope = (4 * difference(1e-3) - difference(2e-3)) / 3;
                p.sinks[at] = kept;
                REQUIRE(std::abs(slope - got.d_sinks[at]) <= 1e-6 * (1e-3 + std::abs(slope)));
            }
        }
    }
}

}  // namespace

TEST_CASE("attention: gradients agree with central differences in double") {
    // 232 shapes in all.
    differences<full_pattern, 1, score<>>(24, 1);
    differences<causal_pattern, 8, score<>>(40, 2);
    differences<pattern_of<local>, 20, score<true>>(40, 3);
    differences<pattern_of<prefix_lm>, 8, score<false, true>>(32, 4);
    differences<pattern_of<dilated_causal>, 8, score<false, false, true>>(32, 5);
    differences<pattern_of<global<2>>, 5, score<false, false, false, true>>(32, 6);
    differences<causal_pattern, 8, score<true, true, true, true>>(32, 7);
}

TEST_CASE_TEMPLATE("attention: both directions agree with the definition around every edge", Setup,
                   std::tuple<causal_pattern, std::integral_constant<int, 64>>, std::tuple<full_pattern, std::integral_constant<int, 8>>,
                   std::tuple<pattern_of<local>, std::integral_constant<int, 20>>, std::tuple<pattern_of<prefix_lm>, std::integral_constant<int, 8>>,
                   std::tuple<pattern_of<global<3>>, std::integral_constant<int, 33>>,
                   std::tuple<pattern_of<strided<7>>, std::integral_constant<int, 8>>,
                   std::tuple<pattern_of<dilated_causal>, std::integral_constant<int, 8>>) {
    using P = std::tuple_element_t<0, Setup>;
    constexpr index head_dim = std::tuple_element_t<1, Setup>::value;
    std::mt19937 generator(31);
    for (std::size_t i = 0; i < layouts.size(); ++i) {
        // Multi-head, grouped and multi-query.
        const index key_heads = i % 3 == 0 ? 2 : 1, heads = i % 3 == 2 ? 3 : 2;
        CAPTURE(i);
        attention_problem<P, head_dim, score<>, double> p(generator, test::documents(layouts[i]), heads, key_heads, arguments_for<P>());
        check<decltype(p), double>(p, 1e-13);
        if constexpr (head_dim != 8) {
            attention_problem<P, head_dim, score<>, float> f(generator, test::documents(layouts[i]), heads, key_heads, arguments_for<P>());
            check<decltype(f), float>(f, 3e-6);
        }
    }
}

TEST_CASE("attention: no tokens, no segments") {
    std::mt19937 generator(3);
    attention_problem<causal_pattern, 8, score<>, float> p(generator, {}, 2, 2);
    attention_outputs<decltype(p), float> got(p);
    got.both(p);
    CHECK(got.intact());
}

TEST_CASE("attention: large logits neither overflow nor lose the largest") {
    std::mt19937 generator(5);
    attention_problem<causal_pattern, 64, score<>, float> p(generator, test::documents({130, 100}), 1, 1, {}, 400);
    const attention_results want = p.reference();
    attention_outputs<decltype(p), float> got(p);
    got.both(p);
    // Logits of about 1e4 carry an absolute error of 1e-3 into the exponent.
    CHECK(relative_error(got.out, want.out) <= 2e-2);
    CHECK(relative_error(got.lse, want.lse) <= 1e-6);
    CHECK(relative_error(got.dv, want.dv) <= 2e-2);
    CHECK(relative_error(got.dq, want.dq) <= 5e-2);
}

TEST_CASE("attention: dk and dv are added to on request, and delta may come from outside") {
    std::mt19937 generator(7);
    attention_problem<causal_pattern, 8, score<>, double> p(generator, test::documents({40, 0, 97}), 4, 2);
    attention_outputs<decltype(p), double> plain(p), added(p);
    plain.both(p);
    added.forward(p);
    added.dk.fill_random(generator), added.dv.fill_random(generator);
    const test::dense dk0(added.dk), dv0(added.dv);
    matrix<double> delta(p.query_rows(), p.heads, 7);
    for (index t = 0; t < p.query_rows(); ++t)
        for (index h = 0; h < p.heads; ++h) {
            delta(t, h) = 0;
            for (index d = 0; d < 8; ++d) delta(t, h) += plain.out(t, h * 8 + d) * p.d_out(t, h * 8 + d);
        }
    // Had it read `out` again, it would be found out.
    for (index t = 0; t < p.query_rows(); ++t) added.out(t, 0) = test::poison<double>();
    added.backward(p, host::accumulate::yes, delta.view());
    test::dense dk(plain.dk), dv(plain.dv), dq(plain.dq);
    for (std::size_t i = 0; i < dk.values.size(); ++i) dk.values[i] += dk0.values[i], dv.values[i] += dv0.values[i];
    CHECK(relative_error(added.dq, dq) <= 1e-14);
    CHECK(relative_error(added.dk, dk) <= 1e-14);
    CHECK(relative_error(added.dv, dv) <= 1e-14);
}

TEST_CASE("attention: the second backward has the bits of the first") {
    std::mt19937 generator(9);
    attention_problem<pattern_of<local>, 64, score<>, float> p(generator, test::documents({193, 31, 0, 1, 260}), 4, 2);
    attention_outputs<decltype(p), float> first(p), second(p);
    first.both(p);
    second.forward(p);
    second.dq.fill_random(generator), second.dk.fill_random(generator), second.dv.fill_random(generator);
    second.backward(p);
    CHECK(second.same_bits(first));
}

}  // namespace longspan
