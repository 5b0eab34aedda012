// SPDX-License-Identifier: Apache-2.0
//
// Two residual streams: every policy of such a model gives the bits of store_all, reversible takes what its plan says, to the byte, and
// finds every block's input as it was.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include <longspan/checkpoint/reversible.hpp>
#include <longspan/model/draw.hpp>

#include "../model/configs.hpp"

namespace models {

namespace {

/// The same model on two streams.
constexpr decoder_shape paired(decoder_shape s, index layers = 0) {
    s.residual = residual_kind::two_streams;
    if (layers > 0) s.layers = layers;
    return s;
}
constexpr decoder_shape dropped = [] {
    decoder_shape s = paired(llama, 4);
    s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3, s.token_chunk = 40, s.head_group = 1;  // of 131 tokens, of two
    return s;
}();

/// A second key/value head, taken after the first.
constexpr decoder_shape in_two_groups(decoder_shape s) {
    s.key_value_heads = 2, s.head_group = 1;
    return s;
}

/// Regions hold a byte of a quiet NaN when they are taken, and again when they are given back.
void poison(void*, const char*, std::span<std::byte> region) { std::memset(region.data(), 0xff, region.size()); }

/// Loss and gradients under a policy, in exactly the bytes of its plan, every one of them poisoned; in less there are none.
template <auto Checkpoint, auto Precision, decoder_shape Shape, class Weights>
auto gradients_under(const Weights& weights, const token_batch& batch) {
    using c = config<Shape, local, Checkpoint, Precision>;
    using pass_type = decoder_pass<c, host::cpu>;
    constexpr bytes needed = pass_layout<c, host::cpu>(budget, 16).peak(host_alignment);
    std::vector<typename pass_type::gradient> gradients(static_cast<std::size_t>(parameter_layout<typename pass_type::model>::size));
    step_state state{};
    state.keys = {5, 3};
    state.gradient_scale = Precision.needs_loss_scale ? 64.0f : 1.0f;
    const auto run = [&](bytes room) {
        arena memory(room);
        memory.observe({nullptr, poison, poison});
        const auto placed = placed_batch::in<host::cpu>(nullptr, batch, [](auto from, auto*) { return from.data(); });
        try {
            pass_type(host::cpu{}, memory, &state).add_gradients(placed, weights.data(), gradients.data());
        } catch (...) {
            CHECK(memory.used() == 0);
            CHECK(memory.in_order());
            throw;
        }
        CHECK(memory.high_water() == room);
        CHECK(memory.used() == 0);
        CHECK(memory.in_order());
    };
    CHECK_THROWS_AS(run(needed - 1), out_of_memory);
    for (const bytes part : {1, 3, 7, 11, 13}) CHECK_THROWS_AS(run(needed * part / 14 / 256 * 256), out_of_memory);  // wherever it ends
    std::fill(gradients.begin(), gradients.end(), typename pass_type::gradient{});
    state.losses = {};
    run(needed);
    CHECK(!state.bad.overflowed());
    return std::pair{state.losses.loss, gradients};
}

template <auto Precision, decoder_shape Shape, auto... Policies>
void policies_agree() {
    trainer<config<Shape, local, store_all, Precision>> t{seed{5}};
    const auto given = t.store().weights();
    const std::vector weights(given.begin(), given.end());
    const token_batch batch = odd_batch(Shape.vocabulary, 11);
    const auto kept = gradients_under<store_all, Precision, Shape>(weights, batch);
    double size = 0;
    for (const auto g : kept.second) size += std::abs(static_cast<double>(g));
    CHECK(size > 0.01);
    const auto same = [&](const auto& other) {
        CHECK(std::bit_cast<std::uint64_t>(kept.first) == std::bit_cast<std::uint64_t>(other.first));
        CHECK(std::memcmp(kept.second.data(), other.second.data(), kept.second.size() * sizeof(kept.second[0])) == 0);
    };
    (same(gradients_under<Policies, Precision, Shape>(weights, batch)), ...);
}

}  // namespace

TEST_CASE("reversible gives the bits of store_all: fp32, grouped heads, odd documents, dropout and stochastic depth") {
    policies_agree<fp32, dropped, recompute_every<2>, selective, selective_products, reversible>();
}
TEST_CASE("reversible gives the bits of store_all: fp64, every option, dropout everywhere") {
    policies_agree<fp64, in_two_groups(paired(rich)), reversible>();
}
TEST_CASE("reversible gives the bits of store_all: mixed<bf16>, every option, dropout everywhere") {
    policies_agree<mixed<bf16>, paired(rich, 3), reversible>();
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
        void hold(arena& memory, index, cost = cost::pass) { from = &memory, at = memory.acquire("", 640); }
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
    using c = config<dropped, local, reversible, fp32>;
    bytes most = 0;
    for (const step_moment& m : step_moments<c, host::cpu>()) most = std::max(most, m.total());
    CHECK(most == plan<c, host::cpu>.peak());
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
    trainer<config<dropped, local, watched, fp32>> t{seed{3}};
    watched_policy::compared = watched_policy::differing = 0;
    double first = 0, last = 0;
    for (int i = 0; i < steps; ++i) {
        const step_report report = t.step(odd_batch(dropped.vocabulary, static_cast<std::uint64_t>(i % 4)));
        REQUIRE(report.refused == "");
        (i == 0 ? first : last) = report.loss;
    }
    CHECK(last < 0.8 * first);  // streams that training has moved
    CHECK(watched_policy::compared == steps * 2 * dropped.layers);
    CHECK(watched_policy::differing == 0);
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
