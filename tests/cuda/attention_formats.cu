// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace cuda_test {

using longspan::bf16;
using longspan::causal_pattern;
using longspan::fp16;
using longspan::score;
using longspan::tf32_format;

template <index HeadDim, class T, class Score = score<>, class Pattern = causal_pattern>
void check_format(unsigned seed, double floor, index heads = 2, index key_heads = 1) {
    CAPTURE(HeadDim);
    attention_problem<Pattern, HeadDim, Score, T> p(documents({33, 0, 1, 190, 65}), heads, key_heads, seed);
    p.forward(), p.backward();
    const attention_results first = p.results();
    check_accuracy(first, p.exact(), p.unfused(), floor);
    p.forward(), p.backward();
    CHECK(same_bits(first.dq, p.results().dq));
    CHECK(same_bits(first.dk, p.results().dk));
    CHECK(same_bits(first.dv, p.results().dv));
}

using tf32 = score<false, false, false, false, tf32_format>;

// The floor of float: what exponentials within 2 units and float statistics cost.
TEST_CASE("attention: floats are as good as float") {
    check_format<64, float>(1, 3e-7);
    check_format<128, float>(2, 3e-7);
}
TEST_CASE("attention: floats read as tf32") {
    check_format<64, float, tf32>(3, 1e-6);
    check_format<128, float, tf32>(4, 1e-6);
}
TEST_CASE("attention: fp16 at 128") { check_format<128, fp16>(5, 1e-5); }
TEST_CASE("attention: narrow heads") {
    check_format<8, bf16>(6, 1e-5);
    check_format<32, bf16>(7, 1e-5);
}
TEST_CASE("attention: heads between powers of two") {
    check_format<80, bf16>(8, 1e-5);
    check_format<96, bf16>(9, 1e-5);
    check_format<40, float>(10, 3e-7);
}
TEST_CASE("attention: wide heads") {
    check_format<192, bf16>(11, 1e-5);
    check_format<256, fp16>(12, 1e-5);
    check_format<256, float>(13, 3e-7);
}


// Queries that see keys behind them, by one kernel where both sides name the same tiles, and by two.
using both_ways = longspan::window_pattern<70>;
using global_both_ways = longspan::either_of<longspan::window_pattern<40>, longspan::global_pattern<5>>;

TEST_CASE("attention: fp16 under patterns that look ahead") {
    check_format<64, fp16, score<>, both_ways>(14, 1e-5);
    check_format<64, fp16, score<>, global_both_ways>(15, 1e-5);
}
TEST_CASE("attention: floats, and floats read as tf32, under patterns that look ahead") {
    check_format<64, float, score<>, global_both_ways>(16, 3e-7);
    check_format<64, float, tf32, global_both_ways>(17, 1e-6);
}

}  // namespace cuda_test
