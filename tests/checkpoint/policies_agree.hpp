// SPDX-License-Identifier: Apache-2.0
//
// What every checkpointing policy owes: it takes what its plan says, to the byte, and gives the bits of store_all.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <utility>
#include <vector>

#include "../model/configs.hpp"
#include "../model/late_host.hpp"

namespace models {

/// Regions hold a byte of a quiet NaN when they are taken, and again when they are given back.
inline void poison(void*, const char*, std::span<std::byte> region) { std::memset(region.data(), 0xff, region.size()); }

/// Loss and gradients under a policy, in exactly the bytes of its plan, every one of them poisoned; in a byte less there are none. Copies to
/// pinned memory are done as late as they may be, and then as early.
template <auto Checkpoint, auto Precision, decoder_shape Shape, class Weights>
auto gradients_under(const Weights& weights, const token_batch& batch) {
    using c = config<Shape, local, Checkpoint, Precision>;
    using pass_type = decoder_pass<c, late_host>;
    constexpr bytes needed = pass_layout<c, late_host>(budget, 16).peak(host_alignment);
    constexpr bytes away = pinned_layout<c, late_host>(budget).peak(host_alignment);
    static_assert((away > 0) == offloads<checkpoint_of<c>>);
    std::vector<typename pass_type::gradient> gradients(static_cast<std::size_t>(parameter_layout<typename pass_type::model>::size));
    step_state state{};
    state.keys = {5, 3};
    state.gradient_scale = Precision.needs_loss_scale ? 64.0f : 1.0f;
    const auto run = [&](bytes room, bytes pinned_room) {
        arena memory(room), pinned(pinned_room);
        memory.observe({nullptr, poison, poison});
        pinned.observe({nullptr, poison, poison});
        const auto placed = placed_batch::in<host::cpu>(nullptr, batch, [](auto from, auto*) { return from.data(); });
        const auto end = [&] {
            for (const arena* each : {&memory, &pinned}) {
                CHECK(each->used() == 0);
                CHECK(each->in_order());
            }
        };
        try {
            const auto marks = pass_type(late_host{}, memory, &state, {}, &pinned).add_gradients(placed, weights.data(), gradients.data());
            CHECK(marks.pinned == pinned_room);
        } catch (...) {
            end();
            (void)late_host::copies.settled();
            throw;
        }
        CHECK(memory.high_water() == room);
        CHECK(pinned.high_water() == pinned_room);
        CHECK(late_host::copies.settled());
        end();
    };
    CHECK_THROWS_AS(run(needed - 1, away), out_of_memory);
    for (const bytes part : {1, 2, 3, 5, 7, 9, 11, 12, 13}) CHECK_THROWS_AS(run(needed * part / 14 / 256 * 256, away), out_of_memory);  // wherever it ends
    if (away > 0) {
        arena memory(needed);
        const auto placed = placed_batch::in<host::cpu>(nullptr, batch, [](auto from, auto*) { return from.data(); });
        CHECK_THROWS_AS((void)pass_type(late_host{}, memory, &state).add_gradients(placed, weights.data(), gradients.data()), bad_argument);
        for (const bytes pinned : {bytes{0}, away / 2 / 64 * 64, away - 1}) CHECK_THROWS_AS(run(needed, pinned), out_of_memory);
    }
    std::vector<std::byte> first;
    for (const bool at_once : {true, false}) {
        late_host::copies.at_once = at_once;
        std::fill(gradients.begin(), gradients.end(), typename pass_type::gradient{});
        state.losses = {};
        run(needed, away);
        CHECK(!state.bad.overflowed());
        const auto raw = std::as_bytes(std::span(gradients));
        if (at_once) first.assign(raw.begin(), raw.end());
        else CHECK(std::equal(raw.begin(), raw.end(), first.begin()));
        if (away == 0) break;
    }
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

/// Every option and every dropout, deep enough that something leaves.
inline constexpr decoder_shape four_rich = [] {
    decoder_shape s = rich;
    s.layers = 4;
    return s;
}();
/// The same model on two streams.
constexpr decoder_shape paired(decoder_shape s, index layers = 0) {
    s.residual = residual_kind::two_streams;
    if (layers > 0) s.layers = layers;
    return s;
}
/// Two streams with dropout and stochastic depth.
inline constexpr decoder_shape paired_dropped = [] {
    decoder_shape s = paired(llama, 4);
    s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3, s.token_chunk = 40, s.head_group = 1;  // of 131 tokens, of two
    return s;
}();

}  // namespace models
