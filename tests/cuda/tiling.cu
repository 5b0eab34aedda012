// SPDX-License-Identifier: Apache-2.0
//
// Models that take tokens by chunks and heads by groups, on the device: the bits of store_all when a block is reversed, in the bytes of the
// plan; the host's losses and gradients, every head with its own slope, sink and draws; as near to double as the host is.
#include <cmath>
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

constexpr decoder_shape tiled(decoder_shape s, bool two, index group = 1) {
    s.residual = two ? residual_kind::two_streams : residual_kind::one_stream;
    s.token_chunk = 100, s.head_group = group;
    return s;
}
/// Hopper's heads, rotated where they lie; every kind of dropout.
constexpr decoder_shape dropped = [] {
    decoder_shape s = tiled(wide_heads, true);
    s.layers = 3, s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3;
    return s;
}();
/// QK-norm, sinks, biases, dropout everywhere, on kernels that run on any GPU.
constexpr decoder_shape optioned = [] {
    decoder_shape s = tiled(rich, true);
    s.key_value_heads = 2, s.bias = true;
    return s;
}();

/// Two batches' gradients, so that the second is replayed, and a step.
template <class Config>
auto results() {
    trainer<Config, cuda::device> t{seed{5}};
    double loss = 0;
    for (std::uint64_t i = 0; i < 2; ++i) loss += t.accumulate_gradients(odd_batch(Config::shape.vocabulary, 11 + i));
    const auto added = home(t, t.store().gradients());
    const step_report report = t.step(odd_batch(Config::shape.vocabulary, 13));
    CHECK(report.refused == "");
    CHECK(report.high_water == plan<Config, cuda::device>.peak());
    CHECK(t.memory().in_order());
    return std::tuple{loss, report.loss, report.gradient_norm, cuda_test::doubles(added), cuda_test::doubles(home(t, t.store().gradients()))};
}

/// Steps in float agree with the host's.
template <class Config>
void agrees_with_the_host() {
    trainer<Config, cuda::device> device{seed{5}};
    trainer<Config> host{seed{5}};
    for (std::uint64_t i = 0; i < 2; ++i) {
        const token_batch batch = odd_batch(Config::shape.vocabulary, 40 + i);
        const step_report ours = device.step(batch), theirs = host.step(batch);
        CHECK(ours.refused == "");
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(2e-5));
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-4));
        CHECK(cuda_test::relative_error(cuda_test::doubles(home(device, device.store().gradients())),
                                        cuda_test::doubles(home(host, host.store().gradients()))) < 2e-4);
        CHECK(ours.high_water == plan<Config, cuda::device>.peak());
    }
}

}  // namespace

TEST_CASE("cuda tiling: reversible gives the bits of store_all, mixed<bf16>, Hopper's attention, dropout everywhere") {
    static_assert(cuda::device::on_hopper<model_of_config<config<dropped, local, reversible, mixed<bf16>>>>);
    CHECK(results<config<dropped, local, store_all, mixed<bf16>>>() == results<config<dropped, local, reversible, mixed<bf16>>>());
}
TEST_CASE("cuda tiling: QK-norm, sinks, biases and dropout agree with the host's, by reversal") {
    agrees_with_the_host<config<optioned, local, reversible, fp32>>();
}
TEST_CASE("cuda tiling: ALiBi on one stream agrees with the host's") {
    agrees_with_the_host<config<tiled(slopes, false), causal, recompute_every<1>, fp32>>();
}

TEST_CASE("cuda tiling: mixed<bf16>, dropout on Hopper's attention, is as near to double as the host's mixed<bf16>") {
    using mixed_config = config<dropped, local, reversible, mixed<bf16>>;
    trainer<mixed_config, cuda::device> device{seed{5}};
    trainer<mixed_config> host{seed{5}};
    trainer<config<dropped, local, reversible, fp64>> exact{seed{5}};
    // The masters' values as bf16 holds them, so that rounding the weights is nobody's error.
    auto given = home(host, host.store().masters());
    for (float& x : given) x = to_compute(from_compute<bf16>(x));
    const auto take = [&](auto& t, auto example) {
        const std::vector<decltype(example)> values(given.begin(), given.end());
        t.runtime().upload(std::span(values), t.store().masters().data());
        t.refresh_weights();
    };
    take(device, 0.0f), take(host, 0.0f), take(exact, 0.0);
    const token_batch batch = odd_batch(dropped.vocabulary, 60);
    const double loss = exact.step(batch).loss;
    CHECK(device.step(batch).loss == doctest::Approx(loss).epsilon(2e-3));
    (void)host.step(batch);
    const auto gradients = [](auto& t) { return cuda_test::doubles(home(t, t.store().gradients())); };
    const auto truth = gradients(exact);
    const double ours = cuda_test::relative_error(gradients(device), truth), theirs = cuda_test::relative_error(gradients(host), truth);
    MESSAGE("gradients against double: device " << ours << ", host " << theirs);
    CHECK(ours <= 1.05 * theirs);
}

}  // namespace models
