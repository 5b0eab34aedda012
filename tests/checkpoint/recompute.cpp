// SPDX-License-Identifier: Apache-2.0
//
// Every policy takes what its plan says, to the byte, and gives the bits of every other.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cstddef>
#include <cstring>
#include <span>
#include <type_traits>
#include <utility>
#include <vector>

#include "../model/configs.hpp"

namespace models {

namespace {

/// Regions hold a byte of a quiet NaN when they are taken, and again when they are given back.
void poison(void*, const char*, std::span<std::byte> region) { std::memset(region.data(), 0xff, region.size()); }

/// Loss and gradients under a policy, in exactly the bytes of its plan, every one of them poisoned; in a byte less there are none.
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
        const auto end = [&] {
            CHECK(memory.used() == 0);
            CHECK(memory.in_order());
        };
        try {
            pass_type(host::cpu{}, memory, &state).add_gradients(placed, weights.data(), gradients.data());
        } catch (...) {
            end();
            throw;
        }
        CHECK(memory.high_water() == room);
        end();
    };
    CHECK_THROWS_AS(run(needed - 1), out_of_memory);
    for (const bytes part : {1, 2, 3, 5, 7, 9, 11, 12, 13}) CHECK_THROWS_AS(run(needed * part / 14 / 256 * 256), out_of_memory);  // wherever it ends
    std::fill(gradients.begin(), gradients.end(), typename pass_type::gradient{});
    state.losses = {};
    run(needed);
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

constexpr decoder_shape five = [] {
    decoder_shape s = llama;
    s.layers = 5;
    return s;
}();
/// With dropout and stochastic depth, rotated where they lie.
constexpr decoder_shape five_dropped = [] {
    decoder_shape s = five;
    s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3;
    return s;
}();
/// Segments of two, where attention's tensors are kept: outputs are made again from kept tensors.
constexpr segment_policy<block_rule{.segment = 2, .kept_from = cost::attention}> pairs{};

}  // namespace

TEST_CASE("policies give the same bits: fp32, five layers, documents rotated in place, dropout") {
    policies_agree<fp32, five_dropped, recompute_every<1>, recompute_every<2>, recompute_every<9>, recompute_root, selective, selective_products, pairs,
                   recompute_every<2>.for_blocks<3>().then(selective)>();
}
TEST_CASE("policies give the same bits: fp64, every option, dropout everywhere") {
    policies_agree<fp64, rich, recompute_every<1>, selective, selective_products>();
}
TEST_CASE("policies give the same bits: mixed<bf16>, every option, dropout everywhere") {
    policies_agree<mixed<bf16>, rich, recompute_every<1>, recompute_every<2>, selective, selective_products>();
}
TEST_CASE("policies give the same bits: mixed<fp16>, LayerNorm, GELU, biases") {
    policies_agree<mixed<fp16>, gpt2, selective, selective_products>();
}

TEST_CASE("recomputed blocks: all but the last segment's") {
    using three = std::remove_cvref_t<decltype(recompute_every<3>)>;
    CHECK(three::extent(0, 7).segments == 3);
    CHECK(three::made_again(cost::attention, 7) == 6);
    CHECK(three::extent(0, 2).segments == 1);
    CHECK(three::made_again(cost::attention, 2) == 0);
    using all = std::remove_cvref_t<decltype(store_all)>;
    CHECK(all::made_again(cost::product, 7) == 0);
}

TEST_CASE("recomputing holds less, the more so the deeper the stack") {
    const auto peak = [](auto policy, index blocks) {
        const stack_bytes stack{.blocks = blocks, .stream = 1000, .saved = region("s", 20000), .forward_scratch = region("f", 3000),
                                .backward_scratch = region("b", 5000), .turn = region("t", 4000)};
        return decltype(policy)::plan(stack).peak(1);
    };
    CHECK(peak(store_all, 16) == 16 * 21000 + 1000 + 4000);
    CHECK(peak(recompute_every<4>, 16) == 4 * 1000 + 4 * 20000 + 3 * 1000 + 1000 + 4000);
    CHECK(peak(recompute_every<1>, 16) == 16 * 1000 + 20000 + 1000 + 4000);
}

}  // namespace models
