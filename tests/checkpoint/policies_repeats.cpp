// SPDX-License-Identifier: Apache-2.0
//
// Policies once more: in bf16, and a thousand steps into training. Sanitizers have seen the same code in recompute.cpp and reversible.cpp.
#include <doctest/doctest.h>

#include <cstdint>
#include <vector>

#include <longspan/checkpoint/reversible.hpp>

#include "policies_agree.hpp"

namespace models {

TEST_CASE("policies give the same bits: mixed<bf16>, every option, dropout everywhere") {
    policies_agree<mixed<bf16>, four_rich, recompute_every<1>, recompute_every<2>, selective, selective_products, offload<selective>,
                   offload<selective_products>, recompute_every<1>.for_blocks<1>().then(offload<selective>)>();
}
TEST_CASE("reversible gives the bits of store_all: mixed<bf16>, every option, dropout everywhere") {
    policies_agree<mixed<bf16>, paired(rich, 3), reversible>();
}

namespace {

/// Keeps what the streams were before every half, and looks whether they are so again.
template <class Stack>
struct watched_stack {
    using stream = typename Stack::stream;
    using saved = typename Stack::saved;
    static constexpr index blocks = Stack::blocks;
    Stack& inner;
    index& compared;
    index& differing;
    std::vector<std::vector<fixed_stream<float>>> before{};

    [[nodiscard]] static auto contents(stream& x) {
        const auto all = x.template get<"residual stream">();
        return std::vector(all.data, all.data + all.size());
    }
    [[nodiscard]] index tokens() const { return inner.tokens(); }
    template <cost From = cost::output>
    void forward(index, stream&, stream*, saved&) {}
    void backward(index, stream&, saved&) {}
    template <block_half Half>
    void add_half(index b, stream& x) {
        before.push_back(contents(x));
        inner.template add_half<Half>(b, x);
    }
    template <block_half Half>
    void reverse_half(index b, stream& x) {
        inner.template reverse_half<Half>(b, x);
        differing += contents(x) != before.back();
        ++compared;
        before.pop_back();
    }
};

struct watched_policy {
    static constexpr const char* name = "watched";
    static constexpr bool needs_two_streams = true;
    static inline index compared = 0, differing = 0;
    [[nodiscard]] static constexpr layout plan(const stack_bytes& stack) { return reversible_policy::plan(stack); }
    template <class Stack, class First, class Turn>
    static void run(Stack& stack, arena& memory, First&& first, Turn&& turn) {
        watched_stack<Stack> around{stack, compared, differing};
        reversible_policy::run(around, memory, first, turn);
    }
};
inline constexpr watched_policy watched{};

}  // namespace

TEST_CASE("reversible: 1,000 steps into training every half's input comes back to the bit, with dropout and stochastic depth") {
    constexpr int steps = 1000;
    trainer<config<paired_dropped, local, watched, fp32>> t{seed{3}};
    watched_policy::compared = watched_policy::differing = 0;
    double first = 0, last = 0;
    for (int i = 0; i < steps; ++i) {
        const step_report report = t.step(odd_batch(paired_dropped.vocabulary, static_cast<std::uint64_t>(i % 4)));
        REQUIRE(report.refused == "");
        (i == 0 ? first : last) = report.loss;
    }
    CHECK(last < 0.8 * first);  // streams that training has moved
    CHECK(watched_policy::compared == steps * 2 * paired_dropped.layers);
    CHECK(watched_policy::differing == 0);
}

}  // namespace models
