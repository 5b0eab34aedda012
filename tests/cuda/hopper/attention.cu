// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace cuda_test {

using longspan::bf16;
using longspan::causal_pattern;
using longspan::fp16;
using longspan::full_pattern;
using longspan::score;

static const std::vector<std::vector<index>> layouts{{1}, {127}, {128}, {129}, {64, 1, 0, 130}, {0, 0, 259, 33, 300}, {700, 0, 1, 450}};

template <class P, index HeadDim, class T>
static void check_layouts(index heads, index key_heads, double floor) {
    unsigned seed = 1;
    accuracy all;
    for (const auto& lengths : layouts) {
        CAPTURE(lengths.size());
        CAPTURE(lengths.back());
        hopper_problem<P, HeadDim, score<>, T> p(documents(lengths), heads, key_heads, seed += 10);
        p.forward(), p.backward();
        const attention_results first = p.results();
        all.add(first, p.exact(), p.unfused());
        for (auto* a : {&p.out, &p.dq, &p.dk, &p.dv}) a->poison();
        p.forward(), p.backward();
        const attention_results again = p.results();
        CHECK(same_bits(first.out, again.out));
        CHECK(same_bits(first.dq, again.dq));
        CHECK(same_bits(first.dk, again.dk));
        CHECK(same_bits(first.dv, again.dv));
    }
    all.check(floor);
}

TEST_CASE("hopper attention: causal documents of any length, bf16, heads of 128") { check_layouts<causal_pattern, 128, bf16>(4, 2, 1e-5); }
TEST_CASE("hopper attention: full attention, fp16, heads of 128") { check_layouts<full_pattern, 128, fp16>(2, 2, 1e-5); }

TEST_CASE("hopper attention: causal documents of any length, bf16, heads of 64") { check_layouts<causal_pattern, 64, bf16>(4, 2, 1e-5); }
TEST_CASE("hopper attention: heads of 256, which go backward through the portable kernels") { check_layouts<causal_pattern, 256, bf16>(2, 1, 1e-5); }
TEST_CASE("hopper attention: a causal window, fp16, heads of 64") {
    check_layouts<longspan::both<causal_pattern, longspan::window_pattern<150>>, 64, fp16>(3, 3, 1e-5);
}

}  // namespace cuda_test
