// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>

namespace cuda_test {

using longspan::bf16;
using longspan::causal_pattern;
using longspan::fp16;
using longspan::full_pattern;
using longspan::score;

// Lengths around the edges of tiles, with empty documents and documents of one token.
static const std::vector<std::vector<index>> layouts{{1}, {63}, {64}, {65}, {127, 1, 0, 129}, {0, 0, 31, 33, 200}, {259}};

template <class P, index HeadDim, class T>
void check_layouts(index heads, index key_heads, double floor) {
    unsigned seed = 1;
    for (const auto& lengths : layouts) {
        CAPTURE(lengths.size());
        CAPTURE(lengths.back());
        attention_problem<P, HeadDim, score<>, T> p(documents(lengths), heads, key_heads, seed += 10);
        p.forward(), p.backward();
        const attention_results first = p.results();
        check_accuracy(first, p.exact(), p.unfused(), floor);
        for (auto* a : {&p.out, &p.dq, &p.dk, &p.dv}) a->poison();
        p.forward(), p.backward();
        const attention_results again = p.results();
        CHECK(same_bits(first.out, again.out));
        CHECK(same_bits(first.dq, again.dq));
        CHECK(same_bits(first.dk, again.dk));
        CHECK(same_bits(first.dv, again.dv));
    }
}

TEST_CASE("attention: causal documents of any length, bf16, heads of 128") { check_layouts<causal_pattern, 128, bf16>(4, 2, 1e-5); }
TEST_CASE("attention: causal documents of any length, bf16, heads of 64") { check_layouts<causal_pattern, 64, bf16>(3, 3, 1e-5); }
TEST_CASE("attention: full attention, fp16, heads of 64") { check_layouts<full_pattern, 64, fp16>(6, 1, 1e-5); }
TEST_CASE("attention: full attention, bf16, heads of 128") { check_layouts<full_pattern, 128, bf16>(2, 2, 1e-5); }

}  // namespace cuda_test
