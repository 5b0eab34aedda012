// SPDX-License-Identifier: Apache-2.0
//
// Combs, which are walked remainder by remainder: documents that hold some remainders once, some not at all, or a row more than a tile;
// rows that the step does not divide; queries and keys that begin at different remainders.
#include "attention_cases.cuh"

#include <algorithm>
#include <cstring>

#include <longspan/pattern/strided.hpp>

#include "../attention_doors.cuh"

namespace cuda_test {

using namespace longspan;
using longspan::index;

template <class P, index HeadDim, class Score, class T>
static void check_again(hopper_problem<P, HeadDim, Score, T>& p, accuracy& all) {
    static_assert(step_of<by_remainder<P>> > 1);
    p.forward(), p.backward();
    const attention_results first = p.results();
    all.add(first, p.exact(), p.unfused());
    for (auto* a : {&p.out, &p.dq, &p.dk, &p.dv}) a->poison();
    p.lse.poison();
    if (Score::sink) p.d_sinks.zero();
    p.forward(), p.backward();
    const attention_results again = p.results();
    CHECK(same_bits(first.out, again.out));
    CHECK(same_bits(first.lse, again.lse));
    CHECK(same_bits(first.dq, again.dq));
    CHECK(same_bits(first.dk, again.dk));
    CHECK(same_bits(first.dv, again.dv));
    CHECK(same_bits(first.d_sinks, again.d_sinks));
}

template <index HeadDim, class T = bf16, class P>
static void check_documents(P, index step, index heads, index key_heads, unsigned seed, const typename P::arguments& arguments = {},
                            double floor = 1e-5) {
    accuracy all;
    const std::vector<std::vector<index>> layouts{
        {1}, {step - 1, step, step + 1}, {0, 1, 2 * step + 1, 0, 127 * step + 1}, {128 * step, 3}, {130, 0, 129 * step + 2, 64}};
    for (const auto& lengths : layouts) {
        CAPTURE(lengths.size());
        CAPTURE(lengths.back());
        hopper_problem<P, HeadDim, score<>, T> p(documents(lengths), heads, key_heads, seed += 10, arguments, arguments);
        check_again(p, all);
    }
    all.check(floor);
}

TEST_CASE("hopper attention: combs over documents of any length, heads of 128") {
    check_documents<128>(causal & dilated_window<40, 2>, 2, 4, 2, 100);
    check_documents<128>(causal & dilated_window<70, 8>, 8, 2, 2, 200);
    check_documents<128>(dilated_window<20, 3>, 3, 2, 1, 300);
}
TEST_CASE("hopper attention: combs over documents of any length, heads of 64") {
    check_documents<64>(causal & dilated_window<150, 3>, 3, 4, 2, 400);
    check_documents<64, fp16>(strided<8>, 8, 3, 3, 500);
}
TEST_CASE("hopper attention: a comb whose sums rise, with heads in groups") { check_documents<128>(causal & strided<3>, 3, 4, 2, 600); }
TEST_CASE("hopper attention: a comb wider than its window shows each query itself alone") {
    // dQ and dK are 0, but for rounding of dP − delta: some 800,000 elements of 5e-7, whose squares nothing divides.
    check_documents<128>(window<3> & strided<8>, 8, 2, 1, 700, {}, 5e-4);
}
TEST_CASE("hopper attention: a comb of heads of 256") {
    check_documents<256>(causal & dilated_window<70, 8>, 8, 2, 1, 800);
}
TEST_CASE("hopper attention: a comb whose width is known at run time") {
    check_documents<128>(causal & strided<3> & window_up_to, 3, 2, 2, 900, {200});
}

TEST_CASE("hopper attention: a comb over queries and keys of different sets, whose first positions leave different remainders") {
    using P = both<window_pattern<59 * 8 + 1>, strided_pattern<8>>;
    // A segment with fewer queries than remainders, one with fewer keys, one without keys, one without queries; positions far apart.
    const std::vector<attention_segment> segments{{0, 300, 101, 0, 260, 6, 0, 5},   {300, 3, 1, 260, 100, 0, 1, 6},   {303, 200, 9, 360, 5, 3, 2, 7},
                                                  {503, 40, 0, 365, 0, 0, 3, 8},    {543, 0, 0, 365, 20, 0, 4, 9},    {543, 700, 3, 385, 1100, 0, 5, 10},
                                                  {1243, 30, 4000, 1485, 50, 2, 6, 11}};
    accuracy all;
    hopper_problem<P, 128, score<>, bf16> wide(segments, 4, 2, 1000);
    check_again(wide, all);
    hopper_problem<P, 64, score<>, bf16> narrow(segments, 2, 2, 1010);
    check_again(narrow, all);
    all.check(1e-5);
    const attention_results got = narrow.results();
    for (std::size_t i = 503 * 2; i < 543 * 2; ++i) CHECK(got.lse[i] == -std::numeric_limits<double>::infinity());
    for (std::size_t i = 503 * 128; i < 543 * 128; ++i) CHECK((got.out[i] == 0 && got.dq[i] == 0));
    for (std::size_t i = 365 * 128; i < 385 * 128; ++i) CHECK((got.dk[i] == 0 && got.dv[i] == 0));
}

TEST_CASE("hopper attention: a comb leaves alone what belongs to no segment") {
    using P = both<causal_pattern, strided_pattern<8>>;
    hopper_problem<P, 64, score<>, bf16> p({{0, 60, 100, 0, 60, 100, 0, 5}, {70, 65, 3, 70, 200, 0, 1, 8}}, 2, 2, 1100);
    p.forward(), p.backward();
    const attention_results got = p.results();
    for (const auto* x : {&got.out, &got.dq, &got.dk, &got.dv}) {
        for (std::size_t i = 60 * 128; i < 70 * 128; ++i) CHECK(std::isnan((*x)[i]));
        CHECK(std::none_of(x->begin(), x->begin() + 60 * 128, [](double y) { return std::isnan(y); }));
        CHECK(std::none_of(x->begin() + 70 * 128, x->begin() + 135 * 128, [](double y) { return std::isnan(y); }));
    }
}

TEST_CASE("hopper attention: a comb's keys in two calls, merged; gradients from the whole's log-sum-exp and delta") {
    using P = both<causal_pattern, both<window_pattern<29 * 3 + 1>, strided_pattern<3>>>;
    using problem = hopper_problem<P, 64, score<>, bf16>;
    problem p(documents({450, 40}), 4, 2, 1200);
    std::vector<attention_segment> first = p.segments, second = p.segments;
    for (std::size_t i = 0; i < 2; ++i) {
        first[i].key_count = 34;
        second[i].key_begin += 34, second[i].key_position += 34, second[i].key_count -= 34;
    }
    device_segments early(first, 490, 490, p.stream), late(second, 490, 490, p.stream);
    const auto q = p.view(p.q, 490, 4), k = p.view(p.k, 490, 2), v = p.view(p.v, 490, 2), out = p.view(p.out, 490, 4);
    const matrix_view<float> lse = p.lse.view(490, 4);
    p.settle();
    problem::op::forward(p.stream, q, k, v, early.span(), {}, p.values, out, lse, p.room.data());
    problem::op::forward(p.stream, q, k, v, late.span(), {}, p.values, out, lse, p.room.data(), true);
    p.backward();
    const attention_results merged = p.results(), exact = p.exact(), unfused = p.unfused();
    CHECK(relative_error(merged.out, exact.out) <= 1.6 * relative_error(unfused.out, exact.out));  // rounded twice
    CHECK(relative_error(merged.lse, exact.lse) < 2e-6);
    CHECK(relative_error(merged.dk, exact.dk) <= 1.2 * relative_error(unfused.dk, exact.dk));

    p.forward();  // the whole's out and log-sum-exp
    p.settle();
    const std::vector<double> whole_out = p.take(p.out, 490, 4);
    std::vector<float> deltas(490 * 4);
    for (std::size_t r = 0; r < 490 * 4; ++r)
        for (std::size_t d = 0; d < 64; ++d) deltas[r] += static_cast<float>(p.host.d_out[r * 64 + d] * whole_out[r * 64 + d]);
    const device_array<float> delta(deltas);
    std::vector<double> dq(490 * 256);
    device_array<float> float_dq(490 * 256), float_dk(490 * 128), float_dv(490 * 128);
    float_dk.zero(), float_dv.zero();
    for (auto* part : {&early, &late}) {
        p.settle();
        problem::op::backward(p.stream, q, k, v, part->span(), {}, p.values, p.view(p.d_out, 490, 4), out, lse, delta.constants(490, 4),
                              float_dq.view(490, 256), float_dk.view(490, 128), float_dv.view(490, 128), accumulate::yes, nullptr, p.room.data());
        const std::vector<double> share = doubles(float_dq.get());
        for (std::size_t i = 0; i < dq.size(); ++i) dq[i] += share[i];
    }
    CHECK(relative_error(dq, exact.dq) <= 1.05 * relative_error(unfused.dq, exact.dq));
    CHECK(relative_error(doubles(float_dk.get()), exact.dk) <= 1.05 * relative_error(unfused.dk, exact.dk));
    CHECK(relative_error(doubles(float_dv.get()), exact.dv) <= 1.05 * relative_error(unfused.dv, exact.dv));
}

template <index HeadDim, class Score, class P>
static void check_score(P, unsigned seed) {
    std::vector<attention_segment> segments = documents({1131, 1, 0, 200, 64});
    segments[3].query_position = segments[3].key_position = 37;
    hopper_problem<P, HeadDim, Score, bf16> p(segments, 3, 3, seed);
    accuracy all;
    check_again(p, all);
    all.check(1e-5);
}

TEST_CASE("hopper attention: ALiBi under a comb measures true distances") {
    check_score<128, score<false, true>>(causal & dilated_window<30, 8>, 1300);
}
TEST_CASE("hopper attention: a soft cap, ALiBi and sinks under a comb") { check_score<128, score<true, true, true>>(strided<3>, 1400); }

TEST_CASE("hopper attention: a comb's sums of dQ in any order") {
    using hopper_sums = longspan::cuda::hopper::sums;
    using P = both<causal_pattern, strided_pattern<3>>;
    std::vector<attention_segment> segments = documents({700, 2, 391});
    for (attention_segment& s : segments) s.key_position = 30;  // so that the first queries of each see no key
    hopper_problem_with<P, 128, score<>, bf16, hopper_sums::nondeterministic> p(segments, 4, 2, 1500);
    p.forward(), p.backward();
    check_accuracy(p.results(), p.exact(), p.unfused(), 1e-5);
}

TEST_CASE("hopper attention: a hundred runs of a comb, the same bits") {
    using P = both<causal_pattern, both<window_pattern<399 * 2 + 1>, strided_pattern<2>>>;
    hopper_problem<P, 128, score<>, bf16> p(documents({2900, 0, 1, 450, 129}), 4, 2, 1600);
    std::vector<std::vector<bf16>> first;
    for (int run = 0; run < 100; ++run) {
        p.forward(), p.backward();
        p.stream.wait();
        std::vector<std::vector<bf16>> now{p.out.get(), p.dq.get(), p.dk.get(), p.dv.get()};
        if (run == 0) first = std::move(now);
        else for (std::size_t i = 0; i < now.size(); ++i) REQUIRE(std::memcmp(first[i].data(), now[i].data(), now[i].size() * sizeof(bf16)) == 0);
    }
}

}  // namespace cuda_test
