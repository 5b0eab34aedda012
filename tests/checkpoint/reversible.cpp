// SPDX-License-Identifier: Apache-2.0
//
// Two residual streams: every policy of such a model gives the bits of store_all, reversible takes what its plan says, to the byte, and
// finds every block's input as it was.
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstddef>
#include <string>
#include <vector>

#include <longspan/checkpoint/reversible.hpp>
#include <longspan/model/draw.hpp>

#include "policies_agree.hpp"

namespace models {

TEST_CASE("reversible gives the bits of store_all: fp32, grouped heads, odd documents, dropout and stochastic depth") {
    policies_agree<fp32, paired_dropped, recompute_every<2>, selective, selective_products, reversible>();
}
TEST_CASE("reversible gives the bits of store_all: fp64, every option, dropout everywhere") {
    policies_agree<fp64, [] {
        decoder_shape s = paired(rich);
        s.key_value_heads = 2, s.head_group = 1;
        return s;
    }(), reversible>();
}
TEST_CASE("reversible gives the bits of store_all: mixed<fp16>, LayerNorm, GELU, learned positions, biases") {
    policies_agree<mixed<fp16>, [] {
        decoder_shape s = paired(gpt2);
        s.token_chunk = 64, s.head_group = 1;
        return s;
    }(), reversible>();
}

namespace {

/// A stack that writes down what is asked of it.
template <index Blocks>
struct counting_stack {
    static constexpr index blocks = Blocks;
    struct place {
        arena* from = nullptr;
        std::byte* at = nullptr;
        void hold(arena& room, index, cost = cost::pass) { from = &room, at = room.acquire("", 640); }
        void drop() noexcept {
            if (at) from->release("", at, 640);
            at = nullptr;
        }
        void hold_rest() {}
        void drop_rest() {}
        place() = default;
        place(const place&) = delete;
        ~place() { drop(); }
    };
    struct stream : place {
        index first = 0, second = 0;  // halves that were added to each
    };
    using saved = place;
    arena& memory;
    bool right = true;
    index backwards = 0, throws_at = -1;

    [[nodiscard]] index tokens() const { return 1; }
    template <cost From = cost::output>
    void forward(index, stream&, stream*, saved&) {}
    void backward(index, stream&, saved&) {}
    template <block_half Half>
    void add_half(index b, stream& x) {
        const held_region scratch(memory, "", Half == block_half::attention ? 256 : 128);
        if (throws_at-- == 0) throw 1;
        right = right && x.second == b && x.first == b + (Half == block_half::mlp);
        ++(Half == block_half::attention ? x.first : x.second);
    }
    template <block_half Half>
    void reverse_half(index b, stream& x) {
        const held_region scratch(memory, "", Half == block_half::attention ? 320 : 512);
        if (throws_at-- == 0) throw 1;
        --(Half == block_half::attention ? x.first : x.second);
        right = right && x.second == b && x.first == b + (Half == block_half::mlp);
        ++backwards;
    }
    static stack_bytes bytes() {
        stack_bytes sizes;
        sizes.blocks = Blocks, sizes.stream = 640, sizes.saved = region("", 9000), sizes.turn = region("", 192);
        sizes.attention = {region("", 256), region("", 320)};
        sizes.mlp = {region("", 128), region("", 512)};
        return sizes;
    }
};
static_assert(reversible_stack<counting_stack<3>>);

template <index Blocks>
void runs_there_and_back() {
    arena memory(1 << 16);
    counting_stack<Blocks> stack{memory};
    const auto turn = [&](auto& x) {
        CHECK(x.first == Blocks);
        CHECK(x.second == Blocks);
        const held_region scratch(memory, "", 192);
    };
    reversible_policy::run(stack, memory, [](auto& x) { CHECK(x.at != nullptr); }, turn);
    CHECK(stack.right);
    CHECK(stack.backwards == 2 * Blocks);
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
    CHECK(memory.high_water() == reversible_policy::plan(counting_stack<Blocks>::bytes()).peak(64));
    CHECK(memory.high_water() == 640 + 512);  // whatever the depth
    for (index call = 0; call < 4 * Blocks; ++call) {
        counting_stack<Blocks> throwing{memory};
        throwing.throws_at = call;
        CHECK_THROWS_AS(reversible_policy::run(throwing, memory, [](auto&) {}, turn), int);
        CHECK(memory.used() == 0);
    }
}

}  // namespace

TEST_CASE("reversible: every half runs forward once and back once, in order; the plan is what was held, whatever the depth") {
    runs_there_and_back<1>();
    runs_there_and_back<2>();
    runs_there_and_back<12>();
    CHECK(reversible_policy::made_again(cost::attention, 7) == 7);
    CHECK(reversible_policy::made_again(cost::pass, 7) == 0);
    constexpr auto peak = []<index Layers>() {
        return pass_layout<config<paired(llama, Layers), local, reversible, mixed<bf16>>, host::cpu>(budget, 16).peak(64);
    };
    static_assert(peak.operator()<2>() == peak.operator()<64>());
    using c = config<paired_dropped, local, reversible, fp32>;
    bytes most = 0;
    for (const step_moment& m : step_moments<c, host::cpu>()) most = std::max(most, m.total());
    CHECK(most == plan<c, host::cpu>.peak());
}

TEST_CASE("two streams: a stream that leaves its range is refused with a sentence, and changes no parameter") {
    trainer<config<paired(llama), local, reversible, fp32>> t{seed{3}};
    const token_batch batch = odd_batch(61, 3);
    CHECK(t.step(batch).refused == "");
    const float was = t.store().weights()[5];
    const auto spoil = [&](float value) { t.store().weights()[5] = value; };
    const auto bits = [&] { return std::vector<float>(t.store().weights().begin(), t.store().weights().end()); };
    spoil(4097);
    const std::vector<float> before = bits();
    const step_report report = t.step(batch);
    CAPTURE(report.refused);
    CHECK(report.refused.find("a residual stream of token ") == 0);
    CHECK(report.refused.find("its fixed point, ±") != std::string::npos);
    CHECK(std::isnan(report.loss));
    CHECK(report.step == 2);
    CHECK(bits() == before);
    CHECK(t.state().updates == 1);
    CHECK_THROWS_AS((void)t.evaluate(batch), stream_overflow);
    CHECK_THROWS_AS((void)t.accumulate_gradients(batch), stream_overflow);
    CHECK_THROWS_AS((void)t.forward(batch, [](auto&, auto x) { return x.rows; }), stream_overflow);
    spoil(std::nanf(""));
    CHECK(t.step(batch).refused.find(": the weight embedding.weight is not finite at element 5") != std::string::npos);
    spoil(was);
    CHECK(t.step(batch).refused == "");  // what was noted is forgotten
    CHECK(std::isfinite(t.evaluate(batch)));
}

}  // namespace models
