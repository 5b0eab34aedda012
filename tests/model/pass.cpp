// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cstring>
#include <span>
#include <vector>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/cuda/device.hpp>
#include <longspan/model/pass.hpp>

#include "configs.hpp"

namespace models {
namespace {

template <class T>
bool same_bits(std::span<const T> a, std::span<const T> b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size_bytes()) == 0;
}

/// A trainer of somebody's own: its memory, its state, no more than the layout says.
template <class Config>
struct own {
    using pass_type = decoder_pass<Config, host::cpu>;
    using layout_type = parameter_layout<typename pass_type::model>;
    static constexpr bytes needed = pass_layout<Config, host::cpu>(budget, 16).peak(host_alignment);

    arena memory{needed};
    step_state state{};
    std::vector<typename pass_type::weight> weights;
    std::vector<typename pass_type::gradient> gradients = std::vector<typename pass_type::gradient>(static_cast<std::size_t>(layout_type::size));
    pass_type pass{host::cpu{}, memory, &state};
};

placed_batch where_it_is(const token_batch& batch) {
    return placed_batch::in<host::cpu>(nullptr, batch, [](auto from, auto*) { return from.data(); });
}

template <class Config>
void agrees_with_the_trainer() {
    trainer<Config> theirs{seed{4}};
    own<Config> mine;
    const auto given = theirs.store().weights();
    mine.weights.assign(given.begin(), given.end());
    mine.state.keys = {4, 0};
    theirs.state().scale.value = mine.state.gradient_scale = 4;
    double loss = 0;
    for (std::uint64_t i = 0; i < 2; ++i) {  // gradients and losses add up
        const token_batch batch = odd_batch(Config::shape.vocabulary, 10 + i);
        loss += theirs.accumulate_gradients(batch);
        mine.pass.add_gradients(where_it_is(batch), mine.weights.data(), mine.gradients.data());
    }
    CHECK(mine.state.losses.loss == loss);
    CHECK(loss > 0);
    const auto expected = theirs.store().gradients();
    CHECK(same_bits<typename own<Config>::pass_type::gradient>(mine.gradients, {expected.data(), expected.size()}));
    CHECK(mine.memory.high_water() == own<Config>::needed);
    CHECK(mine.memory.used() == 0);
    CHECK(mine.memory.in_order());

    const token_batch batch = odd_batch(Config::shape.vocabulary, 12);
    const double before = mine.state.losses.loss;
    mine.pass.add_losses(where_it_is(batch), mine.weights.data());
    CHECK(mine.state.losses.loss - before == doctest::Approx(theirs.evaluate(batch)).epsilon(1e-12));
    const auto width = [](auto& context, auto x) { return context.training ? 0 : x.rows * x.columns; };
    CHECK(mine.pass.forward(where_it_is(batch), mine.weights.data(), width) == budget * Config::shape.width);
}

}  // namespace

TEST_CASE("pass: on memory of one's own, the trainer's bits, in the bytes of its layout") {
    agrees_with_the_trainer<config<llama, causal, store_all, fp32>>();
    agrees_with_the_trainer<config<gpt2, local, recompute_every<1>, fp32>>();
    agrees_with_the_trainer<config<rich, local, store_all, mixed<bf16>>>();
}

TEST_CASE("pass: a step's layout is the parameters, and a pass or the update") {
    using small = config<llama, causal, store_all, fp32>;
    static_assert(step_layout<small, host::cpu>(budget, 16).peak(64) == standing_memory<small>().peak(64) + pass_layout<small, host::cpu>(budget, 16).peak(64));
    CHECK(pass_layout<small, host::cpu>(2 * budget, 16).peak(64) > pass_layout<small, host::cpu>(budget, 16).peak(64));
}

TEST_CASE("pass: a batch is laid out within the room that a backend with memory of its own names for it") {
    using cuda::device;
    for (const bool weighted : {false, true}) {
        token_batch batch = odd_batch(61, 5);
        if (weighted) batch.weights.assign(batch.tokens.size(), 0.5f);
        constexpr bytes size = device::batch_memory(budget, 16);
        alignas(256) static std::byte room[size + 1];
        std::memset(room, 0xA5, sizeof room);
        const placed_batch placed = placed_batch::in<device>(room, batch, [](auto from, auto* to) {
            std::memcpy(to, from.data(), from.size_bytes());
            return to;
        });
        CHECK(same_bits<token_id>({placed.tokens, batch.tokens.size()}, batch.tokens));
        CHECK(same_bits<token_id>({placed.targets, batch.targets.size()}, batch.targets));
        CHECK(same_bits<std::int32_t>({placed.by_id, batch.by_id.size()}, batch.by_id));
        CHECK(same_bits<piece>(placed.pieces.pieces, batch.pieces));
        CHECK(placed.pieces.tokens == budget);
        CHECK((placed.weights != nullptr) == weighted);
        CHECK(placed.token_losses == nullptr);
        double* const losses = placed_batch::losses_in<device>(room, budget, 16);
        CHECK(reinterpret_cast<std::uintptr_t>(losses) % device::alignment == 0);
        for (index t = 0; t < budget; ++t) losses[t] = 1;  // over none of the others
        CHECK(same_bits<piece>(placed.pieces.pieces, batch.pieces));
        CHECK(room[size] == std::byte{0xA5});
        for (const void* at : {static_cast<const void*>(placed.tokens), static_cast<const void*>(placed.targets), static_cast<const void*>(placed.by_id)}) {
            CHECK(reinterpret_cast<std::uintptr_t>(at) % device::alignment == 0);
        }
    }
    CHECK(placed_batch::losses_in<device>(nullptr, budget, 16) == nullptr);
}

}  // namespace models
