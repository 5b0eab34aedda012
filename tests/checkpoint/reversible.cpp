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
    s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3;
    return s;
}();

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
    policies_agree<fp64, paired(rich), recompute_every<1>, reversible>();
}
TEST_CASE("reversible gives the bits of store_all: mixed<bf16>, every option, dropout everywhere") {
    policies_agree<mixed<bf16>, paired(rich, 3), recompute_every<1>, reversible>();
}
TEST_CASE("reversible gives the bits of store_all: mixed<fp16>, LayerNorm, GELU, learned positions, biases") {
    policies_agree<mixed<fp16>, paired(gpt2), reversible>();
}

}  // namespace models
