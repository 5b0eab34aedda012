// SPDX-License-Identifier: Apache-2.0
//
// Whole training steps of one configuration on the GPU: documents of equal length, ids drawn at random. Prints one line of JSON:
// milliseconds of a step (median, 10th and 90th percentile, by CUDA events around replayed steps), tokens a second, the seconds that were
// forecast (model/forecast.hpp, at the rates of the backend), the plan's bytes and the device memory that the process took in all, and the
// time from the program's start to the end of the first step.
#pragma once

#include <cuda_runtime.h>

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <random>
#include <vector>

#include <longspan/batch/permutation.hpp>
#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>
#include <longspan/model/forecast.hpp>

namespace step_bench {

namespace ls = longspan;
using ls::index;

/// Documents of `length` tokens that fill the budget; every token but a document's last has a target.
template <class Config>
[[nodiscard]] ls::token_batch batch_of(index length, unsigned seed) {
    constexpr index tokens = Config::batch.budget, vocabulary = Config::shape.vocabulary;
    std::mt19937 random(seed);
    std::uniform_int_distribution<std::int32_t> ids(0, static_cast<std::int32_t>(vocabulary) - 1);
    ls::token_batch batch;
    batch.tokens.resize(tokens);
    batch.targets.resize(tokens);
    batch.by_id.resize(tokens);
    for (auto& id : batch.tokens) id = ids(random);
    for (index t = 0; t < tokens; ++t) {
        const bool last = (t + 1) % length == 0;
        batch.targets[static_cast<std::size_t>(t)] = last ? ls::ignored_target : batch.tokens[static_cast<std::size_t>(t + 1)];
    }
    batch.pieces.assign(static_cast<std::size_t>(Config::batch.max_pieces), ls::piece{ls::padding_document, 0, tokens});
    for (index i = 0; i * length < tokens; ++i) batch.pieces[static_cast<std::size_t>(i)] = {i, 0, i * length};
    ls::sort_tokens(batch.tokens, vocabulary, batch.by_id);
    batch.counts.tokens = tokens;
    batch.counts.targets = tokens - tokens / length;
    batch.counts.target_weight = static_cast<double>(batch.counts.targets);
    return batch;
}

/// Seconds of a step over documents of `length` tokens, as they were expected.
template <class Config, class Device>
[[nodiscard]] double forecast_seconds(index length) {
    const std::vector<index> lengths(static_cast<std::size_t>(Config::batch.budget / length), length);
    return ls::forecast<Config, Device>(lengths).seconds();
}

inline const auto started = std::chrono::steady_clock::now();

template <class Config, class Device = ls::cuda::device>
void run(const char* name, index length, int steps = 20) {
    std::size_t free_before = 0, free_after = 0, total = 0;
    cudaMemGetInfo(&free_before, &total);
    ls::trainer<Config, Device> trainer{ls::seed{1}};
    const ls::token_batch batches[2] = {batch_of<Config>(length, 1), batch_of<Config>(length, 2)};
    const ls::step_report first = trainer.step(batches[0]);
    const double to_first = std::chrono::duration<double>(std::chrono::steady_clock::now() - started).count();
    for (int i = 0; i < 3; ++i) (void)trainer.step(batches[1]);
    cudaMemGetInfo(&free_after, &total);

    std::vector<cudaEvent_t> marks(static_cast<std::size_t>(steps) + 1);
    for (auto& mark : marks) cudaEventCreate(&mark);
    cudaEventRecord(marks[0], trainer.runtime().stream());
    for (int i = 0; i < steps; ++i) {
        (void)trainer.submit(std::span(&batches[i % 2], 1));
        cudaEventRecord(marks[static_cast<std::size_t>(i) + 1], trainer.runtime().stream());
    }
    trainer.runtime().wait();
    std::vector<float> took(static_cast<std::size_t>(steps));
    for (int i = 0; i < steps; ++i) {
        cudaEventElapsedTime(&took[static_cast<std::size_t>(i)], marks[static_cast<std::size_t>(i)], marks[static_cast<std::size_t>(i) + 1]);
    }
    std::sort(took.begin(), took.end());
    const double median = took[took.size() / 2];
    std::printf("{\"name\": \"%s\", \"backend\": \"%s\", \"ms\": %.3f, \"ms_p10\": %.3f, \"ms_p90\": %.3f, \"tokens_per_second\": %.0f, "
                "\"forecast_seconds\": %.5f, \"plan_gib\": %.3f, \"pinned_gib\": %.3f, \"process_gib\": %.3f, \"first_step_s\": %.3f, \"first_loss\": %.5f, \"loss\": %.5f}\n",
                name, Device::name, median, took[took.size() / 10], took[took.size() * 9 / 10], 1e3 * static_cast<double>(Config::batch.budget) / median,
                forecast_seconds<Config, Device>(length), static_cast<double>(trainer.memory_needed) / static_cast<double>(ls::GiB),
                static_cast<double>(trainer.pinned_needed) / static_cast<double>(ls::GiB),
                static_cast<double>(free_before - free_after) / static_cast<double>(ls::GiB), to_first, first.loss,
                trainer.step(batches[0]).loss);
    std::fflush(stdout);
    for (auto& mark : marks) cudaEventDestroy(mark);
}

/// For steps of many seconds: one is timed, by the wall; the first, records and all, or the second.
template <class Config, class Device = ls::cuda::device>
void run_once(const char* name, bool second = true) {
    std::size_t free_before = 0, free_after = 0, total = 0;
    cudaMemGetInfo(&free_before, &total);
    ls::trainer<Config, Device> trainer{ls::seed{1}};
    const ls::token_batch batch = batch_of<Config>(Config::batch.budget, 1);
    if (second) (void)trainer.step(batch);
    trainer.runtime().wait();
    const auto before = std::chrono::steady_clock::now();
    const ls::step_report timed = trainer.step(batch);
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count();
    cudaMemGetInfo(&free_after, &total);
    const auto gib = [](auto size) { return static_cast<double>(size) / static_cast<double>(ls::GiB); };
    std::printf("{\"name\": \"%s\", \"backend\": \"%s\", \"step\": %d, \"ms\": %.0f, \"tokens_per_second\": %.0f, \"forecast_seconds\": %.3f, "
                "\"plan_gib\": %.3f, \"high_water_gib\": %.3f, \"pinned_gib\": %.3f, \"process_gib\": %.3f, \"loss\": %.5f}\n",
                name, Device::name, second ? 2 : 1, 1e3 * seconds, static_cast<double>(Config::batch.budget) / seconds,
                forecast_seconds<Config, Device>(Config::batch.budget), gib(trainer.memory_needed), gib(timed.high_water), gib(trainer.pinned_needed),
                gib(free_before - free_after), timed.loss);
    std::fflush(stdout);
}

}  // namespace step_bench
