// SPDX-License-Identifier: Apache-2.0
//
// Whole steps on the device, held against the host's: the same parameters, batches and random numbers.
#include <filesystem>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <utility>
#include <vector>

#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>
#include <longspan/train/snapshot.hpp>

#include "home.hpp"
#include "models.hpp"
#include "support.cuh"
#include "train/kept_by.hpp"

namespace models {
namespace {

template <class Config>
using on_device = trainer<Config, cuda::device>;
template <class Config>
using on_host = trainer<Config>;

template <class Trainer>
std::vector<double> gradients_of(Trainer& t) {
    return cuda_test::doubles(home(t, t.store().gradients()));
}
/// The same parameters in another precision.
template <class From, class To>
void copy_parameters(From& from, To& to) {
    const auto given = home(from, from.store().masters());
    using master = typename To::precision::template storage<role::master>;
    std::vector<master> taken(given.begin(), given.end());
    to.runtime().upload(std::span<const master>(taken), to.store().masters().data());
    to.refresh_weights();
}
std::string refusal_of(auto&& f) {
    try {
        f();
    } catch (const bad_argument& e) {
        return e.what();
    }
    return "";
}

/// Relative error of a parameter's gradient, worst over all parameters whose gradients are not tiny beside the others.
template <class Layout>
double worst(const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0, whole = 0;
    for (const double x : b) whole += x * x;
    Layout::for_each_place([&](const parameter_place& place, const parameter& p) {
        double difference = 0, size = 0;
        for (index i = place.offset; i < place.offset + p.size(); ++i) {
            const auto at = static_cast<std::size_t>(i);
            difference += (a[at] - b[at]) * (a[at] - b[at]);
            size += b[at] * b[at];
        }
        const double error = std::sqrt(difference / (size + 1e-6 * whole));
        if (!(error <= most)) most = error;
    });
    return most;
}

/// Three steps in float on both: losses, norms and every gradient agree.
template <class Config>
void agrees_with_the_host() {
    on_device<Config> device{seed{5}};
    on_host<Config> host{seed{5}};
    using layout = parameter_layout<typename on_host<Config>::model>;
    CHECK(home(device, device.store().masters()) == home(host, host.store().masters()));  // the same draws
    for (std::uint64_t i = 0; i < 3; ++i) {
        const token_batch batch = odd_batch(Config::shape.vocabulary, 40 + i);
        const step_report ours = device.step(batch), theirs = host.step(batch);
        CHECK(ours.refused == "");
        CHECK(ours.step == theirs.step);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(2e-5));
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-4));
        const double error = worst<layout>(gradients_of(device), gradients_of(host));
        CAPTURE(i);
        CHECK(error < 2e-4);
        CHECK(ours.high_water == plan<Config, cuda::device>.peak());
    }
    const token_batch batch = odd_batch(Config::shape.vocabulary, 50);
    CHECK(device.evaluate(batch) == doctest::Approx(host.evaluate(batch)).epsilon(2e-4));
    std::vector<double> ours(budget), theirs(budget);
    (void)device.evaluate(batch, ours);
    (void)host.evaluate(batch, theirs);
    CHECK(cuda_test::relative_error(ours, theirs) < 1e-3);
}

using plain = config<llama, causal, store_all, fp32>;
using mixed_plain = config<llama, local, recompute_every<2>, mixed<bf16>>;
using mixed_kept = config<llama, local, store_all, mixed<bf16>>;
using mixed_half = config<rich, local, store_all, mixed<fp16>>;

}  // namespace

TEST_CASE("cuda trainer: steps in float agree with the host's") { agrees_with_the_host<plain>(); }
TEST_CASE("cuda trainer: LayerNorm, GELU, biases, learned positions agree with the host's") {
    agrees_with_the_host<config<gpt2, local, recompute_every<1>, fp32>>();
}
TEST_CASE("cuda trainer: QK-norm, sinks, soft-cap, dropout, stochastic depth, smoothing agree with the host's") {
    agrees_with_the_host<config<rich, local, store_all, fp32>>();
}
TEST_CASE("cuda trainer: ALiBi agrees with the host's") { agrees_with_the_host<config<slopes, causal, store_all, fp32>>(); }
TEST_CASE("cuda trainer: sinusoidal positions agree with the host's") { agrees_with_the_host<config<waves, full, store_all, fp32>>(); }

namespace {

/// One step's gradients in bf16 are as near to double as the host's in bf16.
template <decoder_shape Shape, class Device>
void as_near_as_the_host() {
    using mixed_config = config<Shape, local, store_all, mixed<bf16>>;
    trainer<mixed_config, Device> device{seed{5}};
    on_host<mixed_config> host{seed{5}};
    trainer<config<Shape, local, store_all, fp64>> exact{seed{5}};
    // The masters' values as bf16 holds them, so that rounding the weights is nobody's error.
    auto given = home(host, host.store().masters());
    for (float& x : given) x = to_compute(from_compute<bf16>(x));
    host.runtime().upload(std::span<const float>(given), host.store().masters().data());
    host.refresh_weights();
    copy_parameters(host, device);
    copy_parameters(host, exact);
    const token_batch batch = odd_batch(Shape.vocabulary, 60);
    const double loss = exact.step(batch).loss;
    CHECK(device.step(batch).loss == doctest::Approx(loss).epsilon(2e-3));
    (void)host.step(batch);
    const auto truth = gradients_of(exact);
    const double ours = cuda_test::relative_error(gradients_of(device), truth), theirs = cuda_test::relative_error(gradients_of(host), truth);
    MESSAGE("gradients against double: device " << ours << ", host " << theirs);
    CHECK(ours <= 1.05 * theirs);
}

}  // namespace

TEST_CASE("cuda trainer: mixed<bf16> is as near to double as the host's mixed<bf16>") { as_near_as_the_host<llama, cuda::device>(); }
TEST_CASE("cuda trainer: the same with attention on Hopper's tensor cores") {
    static_assert(cuda::device::on_hopper<model_of_config<config<wide_heads, local, store_all, mixed<bf16>>>>);
    as_near_as_the_host<wide_heads, cuda::device>();
}
TEST_CASE("cuda trainer: the same with the portable attention named in the type") { as_near_as_the_host<wide_heads, cuda::portable_device>(); }

TEST_CASE("cuda trainer: the same bits from run to run, recorded or not, one step at a time or several under way") {
    const auto trained = [](bool graphs, bool ahead) {
        on_device<mixed_plain> t{seed{3}};
        t.runtime().use_graphs(graphs);
        std::vector<pending_step<on_device<mixed_plain>>> under_way;
        double loss = 0;
        for (std::uint64_t i = 0; i < 7; ++i) {
            const token_batch batch = odd_batch(llama.vocabulary, 70 + i);
            under_way.push_back(t.submit(std::span(&batch, 1)));
            if (!ahead) loss = under_way.back().get().loss;
        }
        loss = under_way.back().get().loss;
        CHECK(t.state().updates == 7);
        return std::pair(loss, kept_by(t));
    };
    const auto first = trained(true, false);
    CHECK(first == trained(true, false));
    CHECK(first == trained(false, false));
    CHECK(first == trained(true, true));
}

TEST_CASE("cuda trainer: what a policy recomputes is what it would have kept, to the bit") {
    on_device<mixed_plain> again{seed{3}};
    on_device<mixed_kept> kept{seed{3}};
    const token_batch batch = odd_batch(llama.vocabulary, 80);
    CHECK(again.step(batch).loss == kept.step(batch).loss);
    CHECK(cuda_test::same_bits(home(again, again.store().gradients()), home(kept, kept.store().gradients())));
}

TEST_CASE("cuda trainer: ids outside the vocabulary are refused in a sentence, and the trainer goes on") {
    on_device<plain> t{seed{1}};
    const token_batch good = odd_batch(llama.vocabulary, 90);
    (void)t.step(good);
    const auto before = kept_by(t);
    token_batch bad = good;
    bad.tokens[9] = llama.vocabulary;
    CHECK(refusal_of([&] { (void)t.step(bad); }) == "embedding: the id of token 9 is outside the vocabulary");
    bad = good;
    bad.targets[7] = llama.vocabulary + 100000;
    bad.targets[3] = -2;
    CHECK(refusal_of([&] { (void)t.step(bad); }) == "loss: the target of token 3 is outside the vocabulary");
    CHECK(kept_by(t) == before);
    CHECK(t.state().steps == 1);
    CHECK(t.step(good).refused == "");
    CHECK(t.memory().in_order());
}

TEST_CASE("cuda trainer: what is not finite is named, and changes nothing") {
    on_device<plain> t{seed{1}};
    const token_batch batch = odd_batch(llama.vocabulary, 91);
    (void)t.step(batch);
    float* const element = t.store().part(t.store().weights(), "blocks.1.attention.qkv.weight").data() + 5;
    for (const float poison : {std::numeric_limits<float>::infinity(), std::numeric_limits<float>::quiet_NaN()}) {
        float good = 0;
        t.runtime().download(std::span<const float>(element, 1), &good);
        t.runtime().upload(std::span<const float>(&poison, 1), element);
        const auto before = kept_by(t);
        const step_report report = t.step(batch);
        CAPTURE(report.refused);
        CHECK(report.refused.find("the weight blocks.1.attention.qkv.weight is not finite at element 5") != std::string::npos);
        CHECK(kept_by(t) == before);
        CHECK(t.state().updates == 1);
        t.runtime().upload(std::span<const float>(&good, 1), element);
    }
    CHECK(t.step(batch).refused == "");
}

TEST_CASE("cuda trainer: mixed<fp16>: gradients that overflow halve the loss scale, and the counter of updates stands still") {
    on_device<mixed_half> t{seed{1}};
    const token_batch batch = odd_batch(rich.vocabulary, 92);
    t.state().scale.value = 0x1p40;
    const auto before = kept_by(t);
    const step_report report = t.step(batch);
    CAPTURE(report.refused);
    CHECK(report.refused != "");
    CHECK(t.state().scale.value == 0x1p39);
    CHECK(t.state().updates == 0);
    CHECK(t.state().steps == 1);
    CHECK(kept_by(t) == before);
    t.state().scale.value = 1024;
    CHECK(t.step(batch).refused == "");
    CHECK(t.state().updates == 1);
}

namespace {

/// A run of From's that has seen an overflow and good steps goes on as To's from its snapshot: the same bits at first, then as near as
/// fp16 lets two orders of summation be. The loss scale, made of powers of two and counters, stays equal.
template <class From, class To>
void goes_on(From& from, const std::string& path) {
    const auto batch = [](std::uint64_t i) { return odd_batch(rich.vocabulary, 300 + i); };
    from.state().scale.value = 0x1p40;
    CHECK(from.step(batch(0)).refused != "");
    CHECK(from.state().scale.value == 0x1p39);
    from.state().scale.value = 256;
    for (std::uint64_t i = 1; i < 4; ++i) CHECK(from.step(batch(i)).refused == "");
    from.state().scale.good_steps = loss_scale::stretch - 2;  // it doubles after two more
    save_snapshot(path, from, {});

    To to{seed{77}};
    CHECK(load_snapshot(path, to).differences.size() == 1);  // the backend
    CHECK(kept_by(to) == kept_by(from));
    CHECK(to.state().steps == 4);
    CHECK(to.state().updates == 3);
    CHECK(to.state().scale == loss_scale{256, loss_scale::stretch - 2, true});
    for (std::uint64_t i = 4; i < 8; ++i) {
        CAPTURE(i);
        if (i == 7) from.state().scale.value = to.state().scale.value = 0x1p40;
        const step_report ours = to.step(batch(i)), theirs = from.step(batch(i));
        CHECK(to.state().scale == from.state().scale);
        CHECK((ours.refused == "") == (i < 7));
        CHECK((theirs.refused == "") == (i < 7));
        if (i == 7) break;
        CHECK(to.state().scale.value == (i < 5 ? 256 : 512));
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(2e-3));  // 2^-9 or so: a few roundings of 2^-11
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(2e-2));
    }
    CHECK(to.state().scale == loss_scale{0x1p39, 0, true});
    CHECK(to.state().updates == 6);
}

}  // namespace

TEST_CASE("cuda trainer: mixed<fp16>: a run and its loss scale go on, on the other backend, from one snapshot") {
    const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("longspan_fp16_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    on_host<mixed_half> host{seed{31}};
    goes_on<on_host<mixed_half>, on_device<mixed_half>>(host, (folder / "to_device.safetensors").string());
    on_device<mixed_half> device{seed{32}};
    goes_on<on_device<mixed_half>, on_host<mixed_half>>(device, (folder / "to_host.safetensors").string());
    std::filesystem::remove_all(folder);
}

}  // namespace models
