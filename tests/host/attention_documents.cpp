// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <tuple>

#include <longspan/host/attention.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

#include "attention_reference.hpp"

namespace longspan {

using host::attention_segment;
using host::score;
using test::attention_outputs;
using test::attention_problem;
using test::attention_results;
using test::dense;
using test::matrix;

namespace {

constexpr auto local = causal & (window<40> | first<3>);
constexpr auto hole = window<5> & first<20>;  // most queries see nothing
constexpr double infinity = std::numeric_limits<double>::infinity();

using every_option = score<true, true, true, true>;

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
    CHECK(got.intact());
}

template <class T>
bool same(T a, T b) {
    return std::memcmp(&a, &b, sizeof(T)) == 0;
}

}  // namespace

TEST_CASE_TEMPLATE("attention: a token of one document moves no bit of another's outputs or gradients", P, causal_pattern, full_pattern,
                   pattern_of<local>, pattern_of<global<2>>) {
    std::mt19937 generator(61);
    using problem = attention_problem<P, 8, every_option, float>;
    problem p(generator, test::documents({97, 0, 1, 33, 195}), 2, 1);
    attention_outputs<problem, float> before(p);
    before.both(p);
    for (const index moved : {0, 96, 97, 98, 130, 131, 325}) {
        problem other = p;
        other.values.slopes = other.slopes.data(), other.values.sinks = other.sinks.data();
        for (auto* x : {&other.q, &other.k, &other.v, &other.d_out}) (*x)(moved, 3) += 1;
        attention_outputs<problem, float> after(other);
        after.both(other);
        index wrong = 0, touched = 0;
        for (const attention_segment& s : p.segments) {
            const bool own = moved >= s.query_begin && moved < s.query_begin + s.query_count;
            for (index t = s.query_begin; t < s.query_begin + s.query_count; ++t)
                for (index c = 0; c < 16; ++c) {
                    const bool equal = same(before.out(t, c), after.out(t, c)) && same(before.dq(t, c), after.dq(t, c)) &&
                                       same(before.dk(t, c % 8), after.dk(t, c % 8)) && same(before.dv(t, c % 8), after.dv(t, c % 8)) &&
                                       same(before.lse(t, c / 8), after.lse(t, c / 8));
                    (own ? touched : wrong) += !equal;
                }
        }
        CAPTURE(moved);
        CHECK(wrong == 0);
        CHECK(touched > 0);
    }
}

TEST_CASE("attention: a document alone has the bits that it has in a batch") {
    std::mt19937 generator(67);
    using problem = attention_problem<pattern_of<local>, 20, every_option, float>;
    problem p(generator, test::documents({31, 97, 0, 200, 1}), 4, 2);
    attention_outputs<problem, float> all(p);
    all.both(p);
    const auto segments = p.segments;
    for (const attention_segment& s : segments) {
        problem alone = p;
        alone.values.slopes = alone.slopes.data(), alone.values.sinks = alone.sinks.data();
        alone.segments = segments;
        attention_outputs<problem, float> got(alone);
        alone.segments = {s};
        got.both(alone);
        index wrong = 0;
        for (index t = 0; t < p.query_rows(); ++t) {
            const bool own = t >= s.query_begin && t < s.query_begin + s.query_count;
            for (index c = 0; c < 80; ++c) {
                // What belongs to no segment of the call is not written.
                wrong += own ? !same(got.out(t, c), all.out(t, c)) || !same(got.dq(t, c), all.dq(t, c))
                             : !std::isnan(got.out(t, c)) || !std::isnan(got.dq(t, c));
                if (c < 40) {
                    wrong += own ? !same(got.dk(t, c), all.dk(t, c)) || !same(got.dv(t, c), all.dv(t, c))
                                 : !std::isnan(got.dk(t, c)) || !std::isnan(got.dv(t, c));
                }
            }
        }
        CHECK(wrong == 0);
    }
}

TEST_CASE_TEMPLATE("attention: separate sets, with positions of their own", T, float, double) {
    std::mt19937 generator(71);
    const double tolerance = std::is_same_v<T, double> ? 1e-12 : 1e-5;
    // One new query after 300 keys, as in decoding; a chunk of queries in the middle; documents without keys, or without queries.
    const std::vector<std::vector<attention_segment>> layouts{
        {{0, 1, 299, 0, 300, 0, 0, 5}},
        {{0, 1, 299, 0, 300, 0, 0, 5}, {1, 1, 95, 300, 96, 0, 1, 9}, {2, 1, 0, 396, 1, 0, 2, 9}},
        {{0, 40, 100, 0, 140, 0, 0, 5}},
        {{0, 97, 64, 0, 33, 64, 0, 5}, {97, 3, 1000, 33, 0, 0, 1, 6}, {100, 0, 0, 33, 41, 7, 2, 7}},
        // Keys in another order than queries, positions beyond 2^31 in both sets.
        {{0, 33, index{1} << 32, 50, 97, (index{1} << 32) - 64, 0, 1}, {33, 50, 0, 0, 50, 0, 1, 2}},
    };
    for (const auto& segments : layouts) {
        attention_problem<causal_pattern, 8, score<>, T> p(generator, segments, 4, 2);
        check<decltype(p), T>(p, tolerance);
        attention_problem<pattern_of<local>, 8, every_option, T> q(generator, segments, 2, 2);
        if (segments.size() == 2) q.values.slopes = q.slopes.data(), q.slopes.assign(2, 1e-3);
        check<decltype(q), T>(q, tolerance * 10);
    }
}

TEST_CASE("attention: a piece that goes on where another ended sees its own keys at their positions") {
    const piece pieces[] = {{4, 0, 0}, {7, 123456, 40}, {9, 0, 75}, {-1, 0, 75}};
    attention_segment segments[4];
    host::self_attention_segments({pieces, 80}, segments);
    const attention_segment& second = segments[1];
    CHECK(second.query_begin == 40);
    CHECK(second.query_count == 35);
    CHECK(second.key_count == 35);
    CHECK(second.query_position == 123456);
    CHECK(second.key_position == 123456);
    CHECK(second.ordinal == 1);
    CHECK(second.document == 7);
    CHECK(segments[2].query_count == 0);
    CHECK(segments[3].query_count == 5);
}

TEST_CASE_TEMPLATE("attention: two halves of the keys, merged, are the whole; gradients too", T, float, double) {
    std::mt19937 generator(73);
    const double tolerance = std::is_same_v<T, double> ? 1e-13 : 2e-6;
    for (const index cut : {0, 1, 96, 150, 195}) {
        using problem = attention_problem<causal_pattern, 8, score<true, true>, T>;
        problem p(generator, test::documents({195, 20}), 4, 2);
        attention_outputs<problem, T> whole(p), halves(p);
        whole.both(p);
        const auto all = p.segments;
        auto low = all, high = all;
        low[0].key_count = cut;
        high[0].key_begin += cut, high[0].key_position += cut, high[0].key_count -= cut;
        low[1].key_count = 0;
        // The later half first: its early queries have seen nothing yet.
        p.segments = high;
        halves.forward(p);
        p.segments = low;
        halves.forward(p, true);
        CHECK(relative_error(halves.out, dense(whole.out)) <= tolerance);
        CHECK(relative_error(halves.lse, dense(whole.lse)) <= tolerance);
        // Backward of each half with the whole's log-sum-exp: dq is the sum of both calls', each key's gradient comes from one.
        halves.backward(p);
        const dense dq_low(halves.dq);
        p.segments = high;
        halves.backward(p);
        dense dq(halves.dq);
        for (std::size_t i = 0; i < dq.values.size(); ++i) dq.values[i] += dq_low.values[i];
        matrix<double> sum(dq.rows, dq.columns);
        for (index r = 0; r < dq.rows; ++r)
            for (index c = 0; c < dq.columns; ++c) sum(r, c) = dq(r, c);
        CHECK(relative_error(sum, dense(whole.dq)) <= tolerance * 10);
        CHECK(relative_error(halves.dk, dense(whole.dk)) <= tolerance * 10);
        CHECK(relative_error(halves.dv, dense(whole.dv)) <= tolerance * 10);
        CHECK(halves.intact());
    }
}

TEST_CASE_TEMPLATE("attention: a query that sees nothing is zero, has log-sum-exp of minus infinity and no gradient", T, float, double, bf16) {
    std::mt19937 generator(79);
    using problem = attention_problem<pattern_of<hole>, 8, score<>, T>;
    problem p(generator, test::documents({200, 3}), 2, 2);
    attention_outputs<problem, T> got(p);
    got.both(p);
    for (index t = 0; t < 203; ++t) {
        const bool blind = t >= 24 && t < 200;
        for (index c = 0; c < 16; ++c) {
            REQUIRE(std::isfinite(got.out.value(t, c)));
            REQUIRE(std::isfinite(got.dq.value(t, c)));
            REQUIRE(std::isfinite(got.dk.value(t, c)));
            REQUIRE(std::isfinite(got.dv.value(t, c)));
            if (blind) REQUIRE((got.out.value(t, c) == 0 && got.dq.value(t, c) == 0));
            if (t >= 20 && t < 200) REQUIRE((got.dk.value(t, c) == 0 && got.dv.value(t, c) == 0));
        }
        REQUIRE((got.lse.value(t, 0) == -infinity) == blind);
    }
    // Merged into a result that saw something, it changes nothing.
    attention_outputs<problem, T> kept = got;
    for (index t = 24; t < 200; ++t) {
        kept.lse(t, 0) = 3;
        for (index c = 0; c < 8; ++c) kept.out(t, c) = from_compute<T>(2);
    }
    kept.forward(p, true);
    for (index t = 24; t < 200; ++t) {
        REQUIRE(kept.lse.value(t, 0) == 3);
        REQUIRE(kept.out.value(t, 1) == 2);
    }
    // Where nothing was seen before, what lies in out is not read.
    attention_outputs<problem, T> fresh(p);
    for (index t = 0; t < 203; ++t) fresh.lse(t, 0) = fresh.lse(t, 1) = -std::numeric_limits<typename problem::statistic>::infinity();
    fresh.forward(p, true);
    CHECK(fresh.out.same_bits(got.out));
}

TEST_CASE("attention: with a sink, a query that sees nothing gives it everything") {
    std::mt19937 generator(83);
    using problem = attention_problem<pattern_of<hole>, 8, score<false, false, true>, double>;
    problem p(generator, test::documents({60}), 2, 2);
    p.sinks[1] = -infinity;
    attention_outputs<problem, double> got(p);
    got.both(p);
    for (index t = 24; t < 60; ++t) {
        CHECK(got.lse(t, 0) == doctest::Approx(p.sinks[0]));
        CHECK(got.lse(t, 1) == -infinity);
        CHECK(got.out(t, 1) == 0);
        CHECK(got.dq(t, 9) == 0);
    }
    CHECK(std::isfinite(got.d_sinks[0]));
    CHECK(got.d_sinks[1] == 0);
}

TEST_CASE("attention: block lists, shorter than the document") {
    std::mt19937 generator(89);
    // 5 blocks of 16 positions; the document has 130: the rest sees nothing.
    const index offsets[] = {0, 1, 2, 4, 7, 9};
    const std::int32_t ids[] = {0, 1, 0, 2, 0, 1, 3, 2, 4};
    index back_offsets[6];
    std::int32_t back_ids[9];
    const block_rows keys{offsets, ids, 5};
    const block_lists lists{16, keys, transpose(keys, 5, back_offsets, back_ids)};
    attention_problem<pattern_of<causal & block_list>, 8, score<>, double> p(generator, test::documents({130, 40}), 2, 1, lists);
    check<decltype(p), double>(p, 1e-13);
}

TEST_CASE_TEMPLATE("attention: 1, 2 and 3 threads give the same bits", T, float, bf16) {
    const test::threads_restored restored;
    std::mt19937 generator(97);
    using problem = attention_problem<pattern_of<local>, 20, every_option, T>;
    problem p(generator, test::documents({400, 1, 0, 97, 31, 193}), 4, 2);
    test::use_threads(1);
    attention_outputs<problem, T> first(p);
    first.both(p);
    for (const int threads : {2, 3}) {
        test::use_threads(threads);
        attention_outputs<problem, T> again(p);
        again.both(p);
        CHECK(again.same_bits(first));
    }
}

TEST_CASE("attention: what does not fit is a sentence, and nothing is written") {
    std::mt19937 generator(101);
    using problem = attention_problem<causal_pattern, 8, score<>, float>;
    problem p(generator, test::documents({20}), 4, 2);
    attention_outputs<problem, float> got(p);
    const auto refused = [&](auto&& call, const char* part) {
        std::string said;
        try {
            call();
        } catch (const bad_argument& e) {
            said = e.what();
        }
        INFO(said);
        CHECK(said.find(part) != std::string::npos);
        CHECK((std::isnan(got.out(0, 0)) && std::isnan(got.dq(0, 0)) && std::isnan(got.dk(0, 0))));
    };
    problem outside = p;
    outside.segments[0].key_count = 21;
    refused([&] { got.forward(outside); }, "a segment reaches outside its sets");
    problem heads(generator, test::documents({20}), 3, 2);
    attention_outputs<problem, float> of_three(heads);
    refused([&] { of_three.forward(heads); }, "got 3 and 2");
    refused([&] { problem::op::forward(p.q.view().column_range(0, 31), p.k.view(), p.v.view(), p.segments, {}, p.values,
                                       got.out.view().column_range(0, 31), got.lse.view()); },
            "whole heads");
    refused([&] { problem::op::forward(p.q.view(), p.k.view(), p.v.view().row_range(0, 19), p.segments, {}, p.values, got.out.view(),
                                       got.lse.view()); },
            "keys and values");
    refused([&] { problem::op::forward(p.q.view(), p.k.view(), p.v.view(), p.segments, {}, p.values, got.out.view(),
                                       got.lse.view().column_range(0, 3)); },
            "lse.columns");
    matrix<float> delta(19, 4);
    refused([&] { got.backward(p, host::accumulate::no, delta.view()); }, "delta");
}

TEST_CASE("attention: numbers that the score needs are asked for") {
    std::mt19937 generator(103);
    using problem = attention_problem<causal_pattern, 8, every_option, float>;
    const auto sentence = [&](auto&& change) {
        problem p(generator, test::documents({20}), 2, 2);
        attention_outputs<problem, float> got(p);
        change(p.values);
        std::string forward, backward;
        try {
            got.forward(p);
        } catch (const bad_argument& e) {
            forward = e.what();
        }
        try {
            got.backward(p);
        } catch (const bad_argument& e) {
            backward = e.what();
        }
        CHECK(std::isnan(got.out(0, 0)));
        CHECK(forward.substr(forward.find(':')) == backward.substr(backward.find(':')));
        return forward;
    };
    CHECK(sentence([](auto& v) { v.soft_cap = 0; }).find("soft_cap above 0") != std::string::npos);
    CHECK(sentence([](auto& v) { v.slopes = nullptr; }).find("slopes") != std::string::npos);
    CHECK(sentence([](auto& v) { v.sinks = nullptr; }).find("sinks") != std::string::npos);
}

}  // namespace longspan
