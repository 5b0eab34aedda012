// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>

namespace cuda_test {

using longspan::bf16;
using longspan::causal_pattern;
using longspan::full_pattern;
using longspan::score;

template <class P, class Score, class T = bf16>
void check_score(unsigned seed, double floor = 1e-5, index heads = 3, index key_heads = 3) {
    // Documents' first positions are no multiples of 16, so that dropout's groups of keys begin within tiles.
    std::vector<attention_segment> segments = documents({131, 1, 0, 200, 64});
    segments[3].query_position = segments[3].key_position = 37;
    attention_problem<P, 64, Score, T> p(segments, heads, key_heads, seed);
    p.forward(), p.backward();
    const attention_results first = p.results();
    check_accuracy(first, p.exact(), p.unfused(), floor);
    if (Score::sink) p.d_sinks.zero();
    p.forward(), p.backward();
    CHECK(same_bits(first.dq, p.results().dq));
    CHECK(same_bits(first.dk, p.results().dk));
    CHECK(same_bits(first.d_sinks, p.results().d_sinks));
}

TEST_CASE("attention: soft-capped scores") { check_score<causal_pattern, score<true>>(1); }
TEST_CASE("attention: ALiBi") { check_score<full_pattern, score<false, true>>(2); }
TEST_CASE("attention: sinks and their gradient") { check_score<causal_pattern, score<false, false, true>>(3); }
TEST_CASE("attention: dropout draws the host's bits") { check_score<causal_pattern, score<false, false, false, true>>(4, 1e-5, 4, 2); }
TEST_CASE("attention: everything at once, in float") { check_score<longspan::both<causal_pattern, longspan::window_pattern<90>>, score<true, true, true, true>, float>(5, 4e-7); }
TEST_CASE("attention: everything at once, in two bytes") {
    check_score<full_pattern, score<true, true, true, true>>(6);
    check_score<longspan::strided_pattern<2>, score<true, true, true, true>>(7);
}

}  // namespace cuda_test
