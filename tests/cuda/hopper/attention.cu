// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <cstring>

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
TEST_CASE("hopper attention: causal documents of any length, bf16, heads of 256") { check_layouts<causal_pattern, 256, bf16>(2, 1, 1e-5); }
TEST_CASE("hopper attention: a thousand runs, the same bits") {
    hopper_problem<causal_pattern, 128, score<>, bf16> p(documents({700, 0, 1, 450, 129}), 4, 2, 71);
    std::vector<std::vector<bf16>> first;
    for (int run = 0; run < 1000; ++run) {
        p.forward(), p.backward();
        p.stream.wait();
        std::vector<std::vector<bf16>> now{p.out.get(), p.dq.get(), p.dk.get(), p.dv.get()};
        if (run == 0) first = std::move(now);
        else for (std::size_t i = 0; i < now.size(); ++i) REQUIRE(std::memcmp(first[i].data(), now[i].data(), now[i].size() * sizeof(bf16)) == 0);
    }
}
static __global__ void scatter(bf16* to, index count, unsigned seed) {
    const index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const auto drawn = longspan::philox4x32(longspan::element_counter(i), longspan::key_of({.seed = seed}));
    to[i] = bf16(2 * longspan::uniform(drawn.word[0]) - 1);
}

TEST_CASE("hopper attention: heads whose sums of dQ have no room at once take turns, with the same bits") {
    using op = longspan::cuda::hopper::attention<causal_pattern, 128>;
    constexpr index tokens = 66000, heads = 34, width = heads * 128, own = 2 * 128;  // 34 heads: 1.07 GiB of sums
    static_assert(longspan::cuda::hopper::detail::heads_at_once(tokens, heads, heads, 128) == 31);
    const own_stream stream;
    constexpr auto elements = static_cast<std::size_t>(tokens * width);
    device_array<bf16> q(elements), k(elements), v(elements), d_out(elements), out(elements), dq(elements), dk(elements), dv(elements);
    unsigned seed = 0;
    for (auto* a : {&q, &k, &v, &d_out}) {
        scatter<<<static_cast<unsigned>((tokens * width + 255) / 256), 256>>>(a->data(), tokens * width, ++seed);
        longspan::cuda::check_launch("test");
    }
    device_array<float> lse(static_cast<std::size_t>(tokens * heads));
    device_array<std::byte> room(static_cast<std::size_t>(op::backward_workspace(tokens, heads, heads)));
    std::vector<index> lengths{40000, 1, 25999};
    device_array<std::byte> memory(static_cast<std::size_t>(longspan::cuda::attention_segment_memory(tokens, 3)));
    const auto list = documents(lengths);
    longspan::cuda::check(cudaMemcpy(memory.data(), list.data(), list.size() * sizeof(attention_segment), cudaMemcpyHostToDevice), "test");
    auto* const segments = reinterpret_cast<attention_segment*>(memory.data());
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    longspan::cuda::schedule_segments(stream, segments, 3, tokens, tokens);
    // The last `columns` columns of each: all heads, or the last two alone.
    const auto run = [&](index columns) {
        const index from = width - columns, number = columns / 128;
        const auto part = [&](device_array<bf16>& a) { return longspan::matrix_view<bf16>(a.data() + from, tokens, columns, width); };
        const longspan::cuda::statistic_view<float> statistics(lse.data(), tokens, number, number, 1);
        op::forward(stream, part(q), part(k), part(v), {segments, 3}, {}, {}, part(out), statistics, room.data());
        op::backward(stream, part(q), part(k), part(v), {segments, 3}, {}, {}, part(d_out), part(out), statistics, {}, part(dq), part(dk), part(dv), accumulate::no,
                     nullptr, room.data());
        stream.wait();
        std::vector<std::vector<bf16>> results;
        for (auto* a : {&out, &dq, &dk, &dv}) {
            std::vector<bf16> columns_here(static_cast<std::size_t>(tokens * own));
            longspan::cuda::check(cudaMemcpy2D(columns_here.data(), own * 2, a->data() + width - own, width * 2, own * 2, tokens, cudaMemcpyDeviceToHost), "test");
            results.push_back(std::move(columns_here));
        }
        return results;
    };
    const auto all = run(width);
    for (auto* a : {&out, &dq, &dk, &dv}) a->poison();
    const auto alone = run(own);
    for (std::size_t i = 0; i < all.size(); ++i) {
        CAPTURE(i);
        CHECK(std::memcmp(all[i].data(), alone[i].data(), all[i].size() * 2) == 0);
        CHECK(std::isfinite(longspan::to_compute(all[i][all[i].size() / 2])));
    }
}

TEST_CASE("hopper attention: a causal window, fp16, heads of 64") {
    check_layouts<longspan::both<causal_pattern, longspan::window_pattern<150>>, 64, fp16>(3, 3, 1e-5);
}

TEST_CASE("hopper attention: sums of dQ in any order, of queries that see nothing too") {
    using longspan::cuda::hopper::sums;
    accuracy all;
    for (const auto& lengths : layouts) {
        std::vector<attention_segment> segments = documents(lengths);
        for (attention_segment& s : segments) s.key_position = 30;  // so that the first 30 queries of each see no key
        hopper_problem_with<causal_pattern, 128, score<>, bf16, sums::nondeterministic> p(segments, 4, 2, 100 + static_cast<unsigned>(lengths.size()));
        p.forward(), p.backward();
        all.add(p.results(), p.exact(), p.unfused());
    }
    all.check(1e-5);
}

}  // namespace cuda_test
