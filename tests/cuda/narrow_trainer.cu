// SPDX-License-Identifier: Apache-2.0
//
// Runs with narrow state on the device (tests/train/narrow_update.cpp has the host's): bytes, bits by bucket and whole, recorded or not,
// stops without waiting for the host, snapshots from one backend to the other.
#include <cstddef>
#include <cstring>
#include <filesystem>
#include <random>
#include <span>
#include <string>
#include <vector>

#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>
#include <longspan/train/snapshot.hpp>

#include "models.hpp"
#include "support.cuh"
#include "train/kept_by.hpp"
#include "train/scratch.hpp"

namespace models {

namespace {

template <auto Update>
struct with : config<wide_heads, local, recompute_every<1>, mixed<bf16>> {
    static constexpr auto update = Update;
};
using whole = with<moments<eight_bit>.without_masters()>;
using passing = with<moments<eight_bit>.without_masters().by_bucket()>;
using twice = with<moments<eight_bit>.without_masters().by_bucket().with_norm()>;
using halves = with<moments<bf16>>;

using rounded = with<moments<eight_bit>.without_masters().bf16_gradients()>;

constexpr decoder_shape deep_heads = [] {
    decoder_shape s = wide_heads;
    s.layers = 5;
    return s;
}();
template <auto Policy, auto Update>
struct deep : config<deep_heads, local, Policy, mixed<bf16>> {
    static constexpr auto update = Update;
};
constexpr auto away = offload<recompute_every<1>>.even_if_slow();

template <class Config>
using on_device = trainer<Config, cuda::device>;

template <class Config>
std::vector<std::byte> trained(bool recorded = true) {
    on_device<Config> t{seed{3}, {}, {no_clip}};
    t.runtime().use_graphs(recorded);
    std::vector<double> losses;
    for (std::uint64_t i = 0; i < 8; ++i) {
        const token_batch batch = odd_batch(Config::shape.vocabulary, i % 2);
        const step_report report = t.step(std::span(&batch, 1), 3e-3);
        CHECK(report.refused == "");
        CHECK(report.high_water == plan<Config, cuda::device>.peak());
        losses.push_back(report.loss);
    }
    CHECK(losses[7] < losses[1]);  // the same batch
    return kept_by(t);
}

/// The gradient of block 0's projection overflows, and nothing else: a norm's scale is 10^38 where the projection's weights are 0.
template <class Trainer>
token_batch overflow(Trainer& t) {
    auto& store = t.store();
    const auto change = [&](const char* name, auto&& f) {
        const auto part = store.part(store.weights(), name);
        std::vector<bf16> values(part.size());
        t.copy_out(std::as_bytes(part), std::as_writable_bytes(std::span(values)).data());
        f(values);
        t.copy_in(std::as_bytes(std::span(values)), std::as_writable_bytes(part).data());
    };
    change("blocks.0.attention.norm.weight", [](auto& values) { values[3] = bf16(1e38f); });
    change("blocks.0.attention.qkv.weight", [](auto& values) {
        for (std::size_t i = 3; i < values.size(); i += static_cast<std::size_t>(wide_heads.width)) values[i] = bf16(0.0f);
    });
    token_batch batch = odd_batch(wide_heads.vocabulary, 7);
    batch.weights.assign(batch.tokens.size(), 1e6f);
    batch.counts.target_weight *= 1e6;
    return batch;
}

}  // namespace

TEST_CASE("cuda narrow update: by bucket, in one pass or two, recorded or not: the bits of whole gradients") {
    const auto expected = trained<whole>();
    CHECK(expected == trained<whole>(false));
    CHECK(expected == trained<passing>());
    CHECK(expected == trained<passing>(false));
    CHECK(expected == trained<twice>());
    CHECK(trained<halves>() == trained<halves>());
    CHECK(trained<rounded>() == trained<rounded>(false));
}

TEST_CASE("cuda narrow update: sums of gradients in bf16 are those of every micro-batch in float, rounded and added") {
    on_device<rounded> t{seed{3}};
    on_device<whole> floats{seed{3}};
    const auto gradients = [](auto& of, auto example) {
        const auto all = of.store().gradients();
        std::vector<decltype(example)> copy(all.size());
        of.copy_out(std::as_bytes(all), std::as_writable_bytes(std::span(copy)).data());
        return copy;
    };
    std::vector<bf16> expected(t.store().gradients().size(), bf16(0.0f));
    for (const std::uint64_t i : {1, 2}) {
        const token_batch batch = odd_batch(wide_heads.vocabulary, i);
        const std::vector<float> zeros(floats.store().gradients().size());
        floats.copy_in(std::as_bytes(std::span(zeros)), std::as_writable_bytes(floats.store().gradients()).data());
        CHECK(floats.accumulate_gradients(batch) == t.accumulate_gradients(batch));
        const std::vector<float> made = gradients(floats, 0.0f);
        for (std::size_t k = 0; k < expected.size(); ++k) expected[k] = bf16(static_cast<float>(expected[k]) + made[k]);
    }
    CHECK(cuda_test::same_bits(gradients(t, bf16(0.0f)), expected));
}

TEST_CASE("cuda narrow update: both passes of a step by bucket keep what they keep in the same pinned memory") {
    constexpr auto narrow = moments<eight_bit>.without_masters();
    const auto expected = trained<deep<recompute_every<1>, narrow>>();
    CHECK(expected == trained<deep<away, narrow.by_bucket().with_norm()>>());
    CHECK(expected == trained<deep<away, narrow.by_bucket().with_norm()>>(false));
}

TEST_CASE("cuda narrow update: two passes clip by the norm of both") {
    on_device<whole> a{seed{3}};
    on_device<twice> b{seed{3}};
    for (std::uint64_t i = 0; i < 4; ++i) {
        const token_batch batch = odd_batch(wide_heads.vocabulary, i);
        const step_report ours = b.step(batch), theirs = a.step(batch);
        CHECK(ours.gradient_norm == doctest::Approx(theirs.gradient_norm).epsilon(1e-9));
        CHECK(ours.gradient_norm > 1);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(1e-4));
        CHECK(ours.step == static_cast<index>(i) + 1);
    }
}

TEST_CASE("cuda narrow update: a gradient that is not finite stops the run and the steps that are under way") {
    on_device<passing> t{seed{1}};
    const token_batch good = odd_batch(wide_heads.vocabulary, 1);
    (void)t.step(good);
    const auto saved = kept_by(t);
    const token_batch bad = overflow(t);
    const auto all = t.store().first_moments();
    const auto moments_now = [&] {
        std::vector<std::byte> copy(all.size_bytes());
        t.copy_out(std::as_bytes(all), copy.data());
        return copy;
    };
    const auto before = moments_now();
    auto first = t.submit(std::span(&bad, 1), 1e-3), second = t.submit(std::span(&good, 1), 1e-3);
    const std::string said = scratch::sentence_of<run_stopped>([&] { (void)first.get(); });
    CHECK(said.starts_with("step 2: the gradient of blocks.0 is not finite. "));
    CHECK(scratch::sentence_of<run_stopped>([&] { (void)second.get(); }) == said);
    CHECK(scratch::sentence_of<run_stopped>([&] { (void)t.step(good); }) == said);
    using layout = parameters_of_config<passing>;
    const auto after = moments_now();
    const auto changed = [&](index bucket) {
        const auto at = static_cast<std::size_t>(layout::bucket_offset(bucket));
        return std::memcmp(before.data() + at, after.data() + at, static_cast<std::size_t>(layout::bucket_size(bucket))) != 0;
    };
    CHECK(changed(3));
    CHECK(changed(2));
    CHECK_FALSE(changed(1));
    CHECK_FALSE(changed(0));

    on_device<twice> two{seed{1}};
    const token_batch again = overflow(two);
    const auto kept = kept_by(two);
    CHECK(two.step(again).refused == "the gradient of blocks.0 is not finite");
    CHECK(kept_by(two) == kept);
    CHECK(saved.size() == kept.size());
}

TEST_CASE("cuda narrow update: a snapshot holds the state as it is, on either backend") {
    const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("longspan_narrow_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    const std::string path = (folder / "run.safetensors").string();
    on_device<passing> t{seed{5}};
    for (std::uint64_t i = 0; i < 3; ++i) (void)t.step(odd_batch(wide_heads.vocabulary, i));
    save_snapshot(path, t, {});
    trainer<passing> host{seed{6}};
    (void)load_snapshot(path, host);
    CHECK(kept_by(host) == kept_by(t));
    CHECK(host.step(odd_batch(wide_heads.vocabulary, 3)).refused == "");
    on_device<passing> resumed{seed{7}};
    CHECK(load_snapshot(path, resumed).differences.empty());
    for (std::uint64_t i = 3; i < 6; ++i) CHECK(t.step(odd_batch(wide_heads.vocabulary, i)).loss == resumed.step(odd_batch(wide_heads.vocabulary, i)).loss);
    CHECK(kept_by(resumed) == kept_by(t));
    std::filesystem::remove_all(folder);
}

TEST_CASE("cuda narrow update: both backends start from the same weights") {
    on_device<whole> there{seed{5}};
    trainer<whole> here{seed{5}};
    CHECK(kept_by(there) == kept_by(here));
}

}  // namespace models
