// SPDX-License-Identifier: Apache-2.0
//
// Long and interrupted runs on the device: a thousand steps twice, a step that neither allocates nor waits, and runs that change
// backend in the middle.
#include <array>
#include <atomic>
#include <chrono>
#include <filesystem>
#include <random>
#include <string>
#include <thread>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>
#include <longspan/train/snapshot.hpp>

#include "allocations.hpp"
#include "home.hpp"
#include "models.hpp"
#include "support.cuh"

namespace {

/// Keeps a stream busy until the host says so.
__global__ void wait_for(const volatile int* flag) {
    while (*flag == 0) __nanosleep(1000);
}

}  // namespace

namespace models {
namespace {

inline constexpr index many = 8209;  // a prime above 8,192

/// Grouped heads, dropout of every kind, documents of odd lengths.
struct busy {
    static constexpr decoder_shape shape{.layers = 2, .width = 128, .heads = 4, .key_value_heads = 2, .head_width = 64, .hidden = 96, .vocabulary = 101, .context = 3000,
                                         .dropout = 0.1, .attention_dropout = 0.1, .stochastic_depth = 0.2, .loss_chunk = 4096};
    static constexpr auto attention = causal & (window<500> | first<16>);
    static constexpr auto checkpoint = store_all;
    static constexpr auto precision = mixed<bf16>;
    static constexpr auto batch = packed<many>.template pieces<16>();
};

token_batch busy_batch(std::uint64_t i) {
    const auto at = static_cast<index>(i);
    return batch_of({1 + 37 * (at % 50), 0, 1, 3000 - at % 7, 911, 129}, busy::shape.vocabulary, i, many);
}

template <class Trainer>
std::vector<float> masters_of(Trainer& t) {
    return home(t, t.store().masters());
}

}  // namespace

namespace {

template <class Device>
void a_thousand_steps_twice() {
    std::vector<token_batch> batches;
    for (std::uint64_t i = 0; i < 10; ++i) batches.push_back(busy_batch(i));
    const auto run = [&] {
        trainer<busy, Device> t{seed{11}};
        std::vector<std::pair<double, double>> said;
        for (std::size_t i = 0; i < 1000; ++i) {
            const step_report report = t.step(batches[i % batches.size()]);
            REQUIRE(report.refused == "");
            said.emplace_back(report.loss, report.gradient_norm);
        }
        return std::pair(said, masters_of(t));
    };
    const auto first = run();
    CHECK(first.first.back().first < first.first.front().first);
    CHECK(first == run());
}

}  // namespace

TEST_CASE("cuda runs: a thousand steps twice end in the same bits") { a_thousand_steps_twice<cuda::device>(); }
TEST_CASE("cuda runs: a thousand steps twice end in the same bits, through the portable attention") { a_thousand_steps_twice<cuda::portable_device>(); }

TEST_CASE("cuda runs: a step under way allocates nothing, and the host waits for nothing") {
    trainer<busy, cuda::device> t{seed{12}};
    const token_batch batch = busy_batch(3);
    const std::span<const token_batch> one(&batch, 1);
    for (int i = 0; i < 3; ++i) (void)t.step(one);

    int* flag = nullptr;
    REQUIRE(cudaHostAlloc(&flag, sizeof(int), cudaHostAllocDefault) == cudaSuccess);
    *flag = 0;
    // Should a step wait for the device, which waits for us, this ends it and the test has failed.
    std::atomic<bool> done{false}, gave_up{false};
    std::thread watch([&] {
        for (int i = 0; i < 200 && !done; ++i) std::this_thread::sleep_for(std::chrono::milliseconds(50));
        if (done) return;
        gave_up = true;
        *const_cast<volatile int*>(flag) = 1;
    });
    std::size_t before = 0, after = 0, total = 0;
    cudaMemGetInfo(&before, &total);
    wait_for<<<1, 1, 0, t.runtime().stream()>>>(flag);
    const long allocated = cuda_test::allocations();
    std::array<pending_step<trainer<busy, cuda::device>>, 3> under_way{t.submit(one, 1e-3), t.submit(one, 1e-3), t.submit(one, 1e-3)};
    CHECK(cuda_test::allocations() == allocated);
    CHECK(cudaStreamQuery(t.runtime().stream()) == cudaErrorNotReady);  // nothing of it has run
    cudaMemGetInfo(&after, &total);
    CHECK(before == after);
    done = true;
    *const_cast<volatile int*>(flag) = 1;
    watch.join();
    CHECK(!gave_up);
    double last = under_way[0].get().loss;
    for (std::size_t i = 1; i < under_way.size(); ++i) {
        const step_report report = under_way[i].get();
        CHECK(report.refused == "");
        CHECK(report.step == 4 + static_cast<index>(i));
        CHECK(report.loss != last);
        last = report.loss;
    }
    cudaFreeHost(flag);
}

TEST_CASE("cuda runs: a run begun on one backend goes on, on the other, from the same snapshot") {
    using config_type = config<llama, local, store_all, fp32>;
    const std::filesystem::path folder = std::filesystem::temp_directory_path() / ("longspan_cuda_" + std::to_string(std::random_device{}()));
    std::filesystem::create_directories(folder);
    const std::string path = (folder / "run.safetensors").string();
    const auto batch = [](std::uint64_t i) { return odd_batch(llama.vocabulary, 200 + i); };

    trainer<config_type> host{seed{21}};
    for (std::uint64_t i = 0; i < 3; ++i) (void)host.step(batch(i));
    save_snapshot(path, host, {});
    trainer<config_type, cuda::device> device{seed{99}};
    const restored_run to_device = load_snapshot(path, device);
    REQUIRE(to_device.differences.size() == 1);
    CHECK(to_device.differences[0] == "run: backend was host, is cuda");
    CHECK(device.state().steps == 3);
    for (std::uint64_t i = 3; i < 6; ++i) {
        const step_report ours = device.step(batch(i)), theirs = host.step(batch(i));
        CHECK(ours.step == theirs.step);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(1e-4));
    }
    // And back; beside it the device itself, which goes on to the bit.
    save_snapshot(path, device, {});
    trainer<config_type> host_again{seed{98}};
    (void)load_snapshot(path, host_again);
    trainer<config_type, cuda::device> device_again{seed{97}};
    CHECK(load_snapshot(path, device_again).differences.empty());
    for (std::uint64_t i = 6; i < 9; ++i) {
        const step_report ours = device.step(batch(i)), again = device_again.step(batch(i)), theirs = host_again.step(batch(i));
        CHECK(ours.loss == again.loss);
        CHECK(ours.gradient_norm == again.gradient_norm);
        CHECK(ours.loss == doctest::Approx(theirs.loss).epsilon(1e-4));
    }
    CHECK(masters_of(device) == masters_of(device_again));
    CHECK(!device.choices().empty());
    CHECK(device_again.reuse("another GPU, cuBLASLt 0\n").find("products ran on another GPU, cuBLASLt 0") == 0);
    std::filesystem::remove_all(folder);
}

TEST_CASE("cuda runs: the same bits whether batches are made when they are asked for or by a thread ahead") {
    using config_type = config<llama, local, store_all, fp32>;
    std::vector<std::string> texts;
    std::mt19937_64 random(5);
    for (int d = 0; d < 40; ++d) {
        std::string text;
        for (std::uint64_t length = 1 + random() % 400; text.size() < length;) text += static_cast<char>(random() % llama.vocabulary);
        texts.push_back(std::move(text));
    }
    const auto run = [&](index depth) {
        using trainer_type = trainer<config_type, cuda::device>;
        trainer_type t{seed{41}};
        std::vector<pending_step<trainer_type>> under_way;
        std::vector<double> said;
        const auto take = [&](std::size_t most) {
            for (; under_way.size() > most; under_way.erase(under_way.begin())) said.push_back(under_way.front().get().loss);
        };
        // Bytes below the model's vocabulary, which a loader by itself does not ask for.
        batch_loader<std::remove_cvref_t<decltype(config_type::batch)>, text_documents> loader(
            text_documents(texts), config_type::shape.context, loader_options{.seed = 6, .steps = 60, .depth = depth});
        for (; !loader.done(); take(3)) under_way.push_back(t.submit(loader.next_step()));
        take(0);
        return std::tuple(said, masters_of(t), loader.state());
    };
    const auto at_once = run(0);
    CHECK(std::get<0>(at_once).size() == 60);
    CHECK(at_once == run(4));
}

}  // namespace models
