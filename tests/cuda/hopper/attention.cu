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
void check_layouts(index heads, index key_heads, double floor) {
    unsigned seed = 1;
    for (const auto& lengths : layouts) {
        CAPTURE(lengths.size());
        CAPTURE(lengths.back());
        hopper_problem<P, HeadDim, score<>, T> p(documents(lengths), heads, key_heads, seed += 10);
        p.forward();
        const auto out = p.take(p.out, p.n.query_tokens, heads);
        check_forward(out, doubles(p.lse.get()), p.exact(), p.unfused(), floor);
        p.out.poison();
        p.forward();
        CHECK(same_bits(out, p.take(p.out, p.n.query_tokens, heads)));
    }
}

TEST_CASE("hopper attention: causal documents of any length, bf16, heads of 128") { check_layouts<causal_pattern, 128, bf16>(4, 2, 1e-5); }
TEST_CASE("hopper attention: full attention, fp16, heads of 128") { check_layouts<full_pattern, 128, fp16>(2, 2, 1e-5); }

}  // namespace cuda_test
