// SPDX-License-Identifier: Apache-2.0
//
// Checkpointing policies on the device: the bits of every gradient and of the loss are those of store_all, recorded or not, in the bytes
// of the plan. The host's half is tests/checkpoint/recompute.cpp.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <span>
#include <tuple>
#include <type_traits>
#include <vector>

#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>

#include "home.hpp"
#include "models.hpp"
#include "support.cuh"

namespace models {
namespace {

/// Heads that Hopper's kernels take, grouped, rotated where they lie; every kind of dropout.
inline constexpr decoder_shape deep{.layers = 5, .width = 128, .heads = 2, .key_value_heads = 1, .head_width = 64, .hidden = 96, .vocabulary = 61,
                                    .context = context, .dropout = 0.1, .attention_dropout = 0.15, .stochastic_depth = 0.3, .loss_chunk = 128};
/// QK-norm, whose rotated pair is made again in any case, and sinks.
inline constexpr decoder_shape normed = [] {
    decoder_shape s = rich;
    s.layers = 3;
    return s;
}();
/// On two streams, which a block's backward can make again.
constexpr decoder_shape on_two_streams(decoder_shape s) {
    s.residual = residual_kind::two_streams;
    return s;
}
constexpr auto mixture = recompute_every<2>.for_blocks<2>().then(selective);
// These are too narrow for their copies to hide.
constexpr auto away = offload<selective>.even_if_slow();
constexpr auto all_away = offload<recompute_every<1>, 3>.even_if_slow();
constexpr auto partly_away = offload<store_all>.even_if_slow().for_blocks<3>().then(away);

template <decoder_shape Shape, auto Precision, auto Policy>
auto gradients_under() {
    using c = config<Shape, local, Policy, Precision>;
    trainer<c, cuda::device> t{seed{5}};
    const index at_rest = t.memory().used();
    const auto gradients = [&] { return home(t, t.store().gradients()); };
    // Twice, so that the second is replayed; gradients add up.
    double loss = 0;
    for (std::uint64_t i = 0; i < 2; ++i) loss += t.accumulate_gradients(odd_batch(Shape.vocabulary, 11 + i));
    CHECK(t.memory().used() == at_rest);
    CHECK(t.memory().in_order());
    const auto added = gradients();
    const step_report report = t.step(odd_batch(Shape.vocabulary, 13));
    CHECK(report.refused == "");
    CHECK(report.high_water == plan<c, cuda::device>.peak());
    CHECK(report.memory.pinned == plan<c, cuda::device>.pinned);
    CHECK((report.memory.pinned > 0) == offloads<checkpoint_of<c>>);
    CHECK(t.pinned().used() == 0);
    CHECK(t.pinned().in_order());
    CHECK(std::max({report.memory.forward, report.memory.turn, report.memory.backward}) == report.high_water);
    return std::tuple{loss, report.loss, report.gradient_norm, added, gradients()};
}

template <decoder_shape Shape, auto Precision, auto... Policies>
void policies_agree() {
    const auto kept = gradients_under<Shape, Precision, store_all>();
    double size = 0;
    for (const auto g : std::get<3>(kept)) size += std::abs(static_cast<double>(g));
    CHECK(size > 0.01);
    const auto same = [&](const auto& other) {
        CHECK(std::get<0>(kept) == std::get<0>(other));
        CHECK(std::get<1>(kept) == std::get<1>(other));
        CHECK(std::get<2>(kept) == std::get<2>(other));
        CHECK(std::memcmp(std::get<3>(kept).data(), std::get<3>(other).data(), std::get<3>(kept).size() * sizeof(std::get<3>(kept)[0])) == 0);
        CHECK(std::memcmp(std::get<4>(kept).data(), std::get<4>(other).data(), std::get<4>(kept).size() * sizeof(std::get<4>(kept)[0])) == 0);
    };
    (same(gradients_under<Shape, Precision, Policies>()), ...);
}

}  // namespace

TEST_CASE("cuda policies: the bits of store_all, mixed<bf16>, dropout, Hopper's attention") {
    static_assert(cuda::device::on_hopper<model_of_config<config<deep, local, store_all, mixed<bf16>>>>);
    policies_agree<deep, mixed<bf16>, recompute_every<1>, recompute_root, selective, selective_products, mixture, away, all_away, partly_away>();
}
TEST_CASE("cuda policies: the bits of store_all, fp32, QK-norm, sinks, dropout") {
    policies_agree<normed, fp32, recompute_every<1>, selective, selective_products, away>();
}
TEST_CASE("cuda policies: reversible gives the bits of store_all, mixed<bf16>, dropout, Hopper's attention") {
    policies_agree<on_two_streams(deep), mixed<bf16>, recompute_every<1>, selective, reversible>();
}
TEST_CASE("cuda policies: reversible gives the bits of store_all, fp32, QK-norm, sinks, dropout") {
    policies_agree<on_two_streams(normed), fp32, selective_products, reversible>();
}

}  // namespace models
