// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

namespace cuda_test {

using longspan::bf16;
using longspan::causal_pattern;
using longspan::fp16;
using longspan::full_pattern;
using longspan::score;

// Lengths around the edges of tiles, with empty documents and documents of one token.
static const std::vector<std::vector<index>> layouts{{1}, {63}, {64}, {65}, {127, 1, 0, 129}, {0, 0, 31, 33, 200}, {259}, {700, 0, 1, 450}};

template <class P, index HeadDim, class T>
static void check_layouts(index heads, index key_heads, double floor) {
    unsigned seed = 1;
    accuracy all;
    for (const auto& lengths : layouts) {
        CAPTURE(lengths.size());
        CAPTURE(lengths.back());
        attention_problem<P, HeadDim, score<>, T> p(documents(lengths), heads, key_heads, seed += 10);
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

TEST_CASE("attention: causal documents of any length, bf16, heads of 128") { check_layouts<causal_pattern, 128, bf16>(4, 2, 1e-5); }
TEST_CASE("attention: causal documents of any length, bf16, heads of 64") { check_layouts<causal_pattern, 64, bf16>(3, 3, 1e-5); }
TEST_CASE("attention: full attention, fp16, heads of 64") { check_layouts<full_pattern, 64, fp16>(6, 1, 1e-5); }
TEST_CASE("attention: full attention, bf16, heads of 128") { check_layouts<full_pattern, 128, bf16>(2, 2, 1e-5); }

// Where one kernel makes all gradients, a block of keys waits for those that its queries' side names: both sides must name the same.
template <longspan::pattern P>
void check_agreement(P, const typename P::arguments& arguments = {}) {
    static_assert(longspan::cuda::detail::agreed<P>);
    for (const index tokens : {1, 100, 129, 700, 1500}) {
        for (const index rows : {64, 128}) {
            const longspan::interval all{0, tokens};
            std::vector<std::pair<index, index>> from_queries, from_keys;
            for (index m = 0; m * rows < tokens; ++m) {
                longspan::for_each_run<P>(arguments, 0, {m * rows, std::min((m + 1) * rows, tokens)}, all, 128, [&](const longspan::tile_run& run) {
                    for (index n = run.first; n < run.last; ++n) from_queries.emplace_back(m, n);
                });
            }
            for (index n = 0; n * 128 < tokens; ++n) {
                longspan::for_each_query_run<P>(arguments, 0, {n * 128, std::min((n + 1) * 128, tokens)}, all, rows, [&](const longspan::tile_run& run) {
                    for (index m = run.first; m < run.last; ++m) from_keys.emplace_back(m, n);
                });
            }
            std::sort(from_keys.begin(), from_keys.end());
            CHECK(from_keys == from_queries);
        }
    }
}

TEST_CASE("attention: patterns whose sums are ordered name the same live tiles from both sides") {
    using namespace longspan;
    const index prefixes[] = {77};
    check_agreement(full);
    check_agreement(causal);
    check_agreement(window<100>);
    check_agreement(causal & window<200>);
    check_agreement(window<130> & causal & window_up_to, {77});
    check_agreement(first<70>);
    check_agreement(causal & first<70>);
    check_agreement(causal & (window<130> | first<30>));
    check_agreement((first<200> | window<64>) & causal);
    check_agreement(causal | prefix, {prefixes});
    check_agreement(window<90> | first<10>);
    const auto agrees = [](auto pattern) { return cuda::detail::agreed<decltype(pattern)>; };
    static_assert(!agrees(window<90> & first<10>), "a tile may hold keys of the strip, and others in the window");
    static_assert(!agrees(strided<3>) && !agrees(block_list) && !agrees(causal & global<3>));
}

}  // namespace cuda_test
