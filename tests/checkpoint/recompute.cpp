// SPDX-License-Identifier: Apache-2.0
//
// Every policy takes what its plan says, to the byte, and gives the bits of every other.
#include <doctest/doctest.h>

#include <bit>
#include <type_traits>

#include "../model/configs.hpp"

namespace models {

namespace {

template <auto Checkpoint, auto Precision, decoder_shape Shape>
auto gradients_under() {
    using c = config<Shape, local, Checkpoint, Precision>;
    trainer<c> t{seed{5}};
    const index at_rest = t.memory().used();
    const token_batch batch = odd_batch(Shape.vocabulary, 11);
    t.memory().reset_high_water();
    const double loss = t.accumulate_gradients(batch);
    CHECK(t.memory().high_water() == plan<c, host::cpu>.peak());
    CHECK(t.memory().in_order());
    CHECK(t.memory().used() == at_rest);
    const auto all = t.store().gradients();
    return std::pair{loss, std::vector(all.begin(), all.end())};
}

template <auto Precision, decoder_shape Shape>
void policies_agree() {
    const auto kept = gradients_under<store_all, Precision, Shape>();
    double size = 0;
    for (const auto g : kept.second) size += std::abs(static_cast<double>(g));
    CHECK(size > 0.01);
    const auto same = [&](const auto& other) {
        CHECK(std::bit_cast<std::uint64_t>(kept.first) == std::bit_cast<std::uint64_t>(other.first));
        CHECK(kept.second == other.second);
    };
    same(gradients_under<recompute_every<1>, Precision, Shape>());
    same(gradients_under<recompute_every<2>, Precision, Shape>());
    same(gradients_under<recompute_every<9>, Precision, Shape>());
}

constexpr decoder_shape five = [] {
    decoder_shape s = llama;
    s.layers = 5;
    return s;
}();

}  // namespace

TEST_CASE("store_all and recompute_every give the same bits: fp32, five layers") { policies_agree<fp32, five>(); }
TEST_CASE("store_all and recompute_every give the same bits: fp64, with dropout everywhere") { policies_agree<fp64, rich>(); }
TEST_CASE("store_all and recompute_every give the same bits: mixed<bf16>, with dropout everywhere") { policies_agree<mixed<bf16>, rich>(); }

TEST_CASE("segments: how many, how long, and what runs twice") {
    using three = std::remove_cvref_t<decltype(recompute_every<3>)>;
    CHECK(three::segments(7) == 3);
    CHECK(three::recomputed(7) == 6);
    CHECK(three::segments(2) == 1);
    CHECK(three::recomputed(2) == 0);
    using all = std::remove_cvref_t<decltype(store_all)>;
    CHECK(all::segments(7) == 1);
    CHECK(all::recomputed(7) == 0);
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
