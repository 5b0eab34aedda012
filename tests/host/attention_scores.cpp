// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <tuple>

#include <longspan/host/attention.hpp>
#include <longspan/host/position.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>
#include <longspan/precision/format.hpp>

#include "attention_reference.hpp"

namespace longspan {

using host::score;
using test::attention_outputs;
using test::attention_problem;
using test::attention_results;
using test::dense;
using test::matrix;

namespace {

constexpr auto local = causal & (window<40> | first<3>);

/// Root of the mean square of got − want.
template <class Got>
double rms(Got&& got, const dense& want) {
    double total = 0;
    for (index r = 0; r < want.rows; ++r)
        for (index c = 0; c < want.columns; ++c) {
            const double e = got(r, c) - want(r, c);
            total += e * e;
        }
    return std::sqrt(total / static_cast<double>(want.values.size()));
}

/// Attention without fusing: probabilities, dS, out and gradients are rounded to the format where a matrix unit would read or
/// write them; sums are floats. One head per key head, no options.
template <class Map, class Stored, class Sees>
attention_results unfused(dense q, dense k, dense v, dense d_out, index head_dim, Sees sees) {
    const auto to_map = [](float x) { return round_to<Map>(x); };
    const auto to_stored = [](float x) { return static_cast<double>(round_to<Stored>(x)); };
    for (dense* operand : {&q, &k, &v, &d_out})
        for (double& x : operand->values) x = static_cast<double>(to_map(static_cast<float>(x)));
    const index tokens = q.rows, heads = q.columns / head_dim;
    attention_results r{dense(tokens, q.columns), dense(tokens, heads), dense(tokens, q.columns), dense(tokens, q.columns), dense(tokens, q.columns), {}};
    const float scale = static_cast<float>(1 / std::sqrt(static_cast<double>(head_dim)));
    const auto f = [](double x) { return static_cast<float>(x); };
    std::vector<float> p(static_cast<std::size_t>(tokens));
    for (index h = 0; h < heads; ++h) {
        const index at = h * head_dim;
        std::vector<float> dq(static_cast<std::size_t>(tokens * head_dim)), dk(dq), dv(dq);
        for (index i = 0; i < tokens; ++i) {
            float top = -std::numeric_limits<float>::infinity(), total = 0;
            for (index j = 0; j < tokens; ++j) {
                float x = 0;
                for (index d = 0; d < head_dim; ++d) x += f(q(i, at + d)) * f(k(j, at + d));
                p[static_cast<std::size_t>(j)] = sees(i, j) ? x * scale : -std::numeric_limits<float>::infinity();
                top = std::max(top, p[static_cast<std::size_t>(j)]);
            }
            for (float& x : p) total += x = std::exp(x - top);
            std::vector<float> out(static_cast<std::size_t>(head_dim));
            for (index j = 0; j < tokens; ++j) {
                float& x = p[static_cast<std::size_t>(j)];
                x /= total;
                for (index d = 0; d < head_dim; ++d) out[static_cast<std::size_t>(d)] += to_map(x) * f(v(j, at + d));
            }
            float delta = 0;
            for (index d = 0; d < head_dim; ++d) {
                r.out(i, at + d) = to_stored(out[static_cast<std::size_t>(d)]);
                delta += f(d_out(i, at + d)) * f(r.out(i, at + d));
            }
            for (index j = 0; j < tokens; ++j) {
                const float x = p[static_cast<std::size_t>(j)];
                float dp = 0;
                for (index d = 0; d < head_dim; ++d) dp += f(d_out(i, at + d)) * f(v(j, at + d));
                const float ds = to_map(x * (dp - delta) * scale);
                for (index d = 0; d < head_dim; ++d) {
                    dq[static_cast<std::size_t>(i * head_dim + d)] += ds * f(k(j, at + d));
                    dk[static_cast<std::size_t>(j * head_dim + d)] += ds * f(q(i, at + d));
                    dv[static_cast<std::size_t>(j * head_dim + d)] += to_map(x) * f(d_out(i, at + d));
                }
            }
        }
        for (index i = 0; i < tokens; ++i)
            for (index d = 0; d < head_dim; ++d) {
                const auto n = static_cast<std::size_t>(i * head_dim + d);
                r.dq(i, at + d) = to_stored(dq[n]), r.dk(i, at + d) = to_stored(dk[n]), r.dv(i, at + d) = to_stored(dv[n]);
            }
    }
    return r;
}

template <class Problem, class T>
void check(Problem& p, double tolerance) {
    const attention_results want = p.reference();
    attention_outputs<Problem, T> got(p);
    got.both(p);
    CHECK(relative_error(got.out, want.out) <= tolerance);
    CHECK(relative_error(got.lse, want.lse, 1.0) <= tolerance);
    CHECK(relative_error(got.dq, want.dq, 1.0) <= tolerance);
    CHECK(relative_error(got.dk, want.dk, 1.0) <= tolerance);
    CHECK(relative_error(got.dv, want.dv) <= tolerance);
    if (!want.d_sinks.empty() && p.values.sinks) {
        for (std::size_t h = 0; h < want.d_sinks.size(); ++h)
            CHECK(std::abs(got.d_sinks[h] - want.d_sinks[h]) <= tolerance * std::max(1.0, std::abs(want.d_sinks[h])) * 10);
    }
    CHECK(got.intact());
}

}  // namespace

TEST_CASE_TEMPLATE("attention: every option of the score agrees with the definition", Score, score<true>, score<false, true>,
                   score<false, false, true>, score<false, false, false, true>, score<true, true, true, true>) {
    std::mt19937 generator(41);
    const std::vector<std::vector<index>> layouts{{0, 1, 33, 95}, {97, 193}, {195}};
    for (const auto& lengths : layouts) {
        attention_problem<pattern_of<local>, 8, Score, double> p(generator, test::documents(lengths), 4, 2);
        check<decltype(p), double>(p, 1e-12);
        p.values.scale = 0.7;
        check<decltype(p), double>(p, 1e-12);
    }
    attention_problem<pattern_of<local>, 20, Score, float> f(generator, test::documents({97, 1, 200}), 4, 2);
    check<decltype(f), float>(f, 1e-5);
}

TEST_CASE("attention: dropout is drawn by the document and its positions, wherever they lie") {
    std::mt19937 generator(43);
    using problem = attention_problem<causal_pattern, 8, score<false, false, false, true>, float>;
    problem p(generator, test::documents({50, 97}), 2, 2);
    attention_outputs<problem, float> got(p), alone(p);
    got.both(p);
    std::vector<host::attention_segment> second{p.segments[1]};
    second[0].ordinal = 3;  // another place in another table
    const auto both = p.segments;
    p.segments = second;
    alone.both(p);
    for (index t = 50; t < 147; ++t)
        for (index c = 0; c < 16; ++c) {
            REQUIRE(got.out(t, c) == alone.out(t, c));
            REQUIRE(got.dk(t, c) == alone.dk(t, c));
        }
    // Another step draws another mask.
    p.values.site.step += 1;
    attention_outputs<problem, float> later(p);
    later.forward(p);
    index same = 0;
    for (index t = 52; t < 147; ++t) same += later.out(t, 0) == alone.out(t, 0);
    CHECK(same < 10);
}

TEST_CASE("attention: a sink that takes everything, or nothing") {
    std::mt19937 generator(47);
    using problem = attention_problem<causal_pattern, 8, score<false, false, true>, double>;
    problem p(generator, test::documents({35}), 2, 1);
    p.sinks = {1000, -std::numeric_limits<double>::infinity()};
    attention_problem<causal_pattern, 8, score<>, double> without(generator, test::documents({35}), 2, 1);
    without.q = p.q, without.k = p.k, without.v = p.v, without.d_out = p.d_out;
    attention_outputs<problem, double> got(p);
    attention_outputs<decltype(without), double> plain(without);
    got.both(p), plain.both(without);
    for (index t = 0; t < 35; ++t)
        for (index d = 0; d < 8; ++d) {
            CHECK(got.out(t, d) == 0);
            CHECK(got.dq(t, d) == 0);
            CHECK(got.out(t, 8 + d) == plain.out(t, 8 + d));
            CHECK(got.dq(t, 8 + d) == plain.dq(t, 8 + d));
        }
    CHECK(got.d_sinks[0] == 0);
    CHECK(got.d_sinks[1] == 0);
}

TEST_CASE("attention: halves of the keys count a sink once, with whichever comes first") {
    std::mt19937 generator(49);
    using problem = attention_problem<causal_pattern, 8, score<false, false, true>, double>;
    problem p(generator, test::documents({130}), 4, 2);
    attention_outputs<problem, double> whole(p), halves(p);
    whole.forward(p);
    const auto all = p.segments;
    p.segments[0].key_count = 70;
    halves.forward(p);
    p.segments = all;
    p.segments[0].key_begin = p.segments[0].key_position = 70, p.segments[0].key_count = 60;
    halves.forward(p, true);
    CHECK(relative_error(halves.out, dense(whole.out)) <= 1e-13);
    CHECK(relative_error(halves.lse, dense(whole.lse)) <= 1e-13);
}

TEST_CASE_TEMPLATE("attention: in two bytes the error is at most 1.05 that of the unfused computation", T, bf16, fp16) {
    std::mt19937 generator(53);
    using problem = attention_problem<causal_pattern, 64, score<>, T>;
    problem p(generator, test::documents({161}), 2, 2);
    const attention_results want = p.reference();
    attention_outputs<problem, T> got(p);
    got.both(p);
    const attention_results plain = unfused<T, T>(dense(p.q), dense(p.k), dense(p.v), dense(p.d_out), 64, [](index i, index j) { return j <= i; });
    CHECK(rms([&](index r, index c) { return got.out.value(r, c); }, want.out) <= 1.05 * rms(plain.out, want.out));
    CHECK(rms([&](index r, index c) { return got.dq.value(r, c); }, want.dq) <= 1.05 * rms(plain.dq, want.dq));
    CHECK(rms([&](index r, index c) { return got.dk.value(r, c); }, want.dk) <= 1.05 * rms(plain.dk, want.dk));
    CHECK(rms([&](index r, index c) { return got.dv.value(r, c); }, want.dv) <= 1.05 * rms(plain.dv, want.dv));
    CHECK(got.intact());
}

TEST_CASE("attention: tf32 rounds what products read, and nothing else") {
    std::mt19937 generator(59);
    using problem = attention_problem<causal_pattern, 64, score<false, false, false, false, tf32_format>, float>;
    problem p(generator, test::documents({161}), 2, 2);
    const attention_results want = p.reference();
    attention_outputs<problem, float> got(p);
    got.both(p);
    const attention_results plain =
        unfused<tf32_format, float>(dense(p.q), dense(p.k), dense(p.v), dense(p.d_out), 64, [](index i, index j) { return j <= i; });
    const auto ratio = [&](auto& result, const dense& rounded, const dense& exact) {
        return rms([&](index r, index c) { return result.value(r, c); }, exact) / rms(rounded, exact);
    };
    // At most the error of rounding, and not much less: then it was not done.
    for (const double r : {ratio(got.out, plain.out, want.out), ratio(got.dq, plain.dq, want.dq), ratio(got.dk, plain.dk, want.dk),
                           ratio(got.dv, plain.dv, want.dv)}) {
        CHECK(r <= 1.05);
        CHECK(r >= 0.8);
    }
    // Operands that are tf32 already: the scores' exactness shows in lse.
    for (auto* x : {&p.q, &p.k})
        for (index r = 0; r < 161; ++r)
            for (index c = 0; c < 128; ++c) (*x)(r, c) = round_to<tf32_format>((*x)(r, c));
    got.forward(p);
    CHECK(relative_error(got.lse, p.reference().lse) <= 1e-6);
}

TEST_CASE_TEMPLATE("attention: P and dS are rounded before their products", Setup, std::tuple<float, tf32_format, tf32_format>,
                   std::tuple<bf16, void, bf16>, std::tuple<fp16, void, fp16>) {
    using T = std::tuple_element_t<0, Setup>;
    using F = std::tuple_element_t<2, Setup>;
    std::mt19937 generator(61);
    using problem = attention_problem<full_pattern, 8, score<false, false, false, false, std::tuple_element_t<1, Setup>>, T>;
    // One query in one dimension, 8 keys, values that name their key: out shows P, dk shows dS, dv shows P again.
    problem p(generator, {{0, 1, 0, 0, 8, 0, 0, 1}}, 1, 1);
    for (index k = 0; k < 8; ++k)
        for (index d = 0; d < 8; ++d) {
            p.v(k, d) = from_compute<T>(k == d ? 1.0f : 0.0f);
            if (k == 0) p.q(0, d) = from_compute<T>(d == 0 ? 1.0f : 0.0f), p.k(0, 0) = from_compute<T>(4.0f);
        }
    attention_outputs<problem, float> got(p);
    got.both(p);
    const auto wanted = p.reference();
    for (index k = 0; k < 8; ++k) {
        // Key 0 has the largest score: its P stands at 1 before the division.
        const float ratio = got.out(0, k) / got.out(0, 0);
        CHECK(ratio == doctest::Approx(static_cast<double>(round_to<F>(ratio))).epsilon(3e-7));
        CHECK(round_to<F>(got.dk(k, 0)) == got.dk(k, 0));
        const float share = got.dv(k, 0) / round_to<F>(static_cast<float>(p.d_out.value(0, 0)));
        CHECK(share == doctest::Approx(static_cast<double>(round_to<F>(share))).epsilon(3e-7));
        CHECK(std::abs(static_cast<double>(got.dk(k, 0)) - wanted.dk(k, 0)) <= 2e-2);
    }
}

}  // namespace longspan
