// SPDX-License-Identifier: Apache-2.0
// One step over one document of 32,768 tokens, every earlier token seen, of a model of 124 million parameters, within 6 GiB: what the
// plan says, what the process held at most (VmHWM), and the seconds. One step, the first, and not part of bench/run unless named: it
// takes minutes, and longer where cores are shared.
#include "one_document.hpp"

#include <benchmark/benchmark.h>

#include <chrono>
#include <fstream>
#include <span>
#include <string>

#include <longspan/longspan.hpp>

namespace ls = longspan;

namespace {

/// GPT-2's shape but for its positions: a table of them would end at 1,024.
struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 12, .width = 768, .heads = 12, .hidden = 3072, .vocabulary = 50304, .context = 32768,
                                                    .norm = ls::norm_kind::layer, .mlp = ls::mlp_kind::gelu_tanh, .bias = true};
    static constexpr auto attention = ls::causal;
    // Everything `selective` would be 100 MiB too many.
    static constexpr auto checkpoint = ls::recompute_every<1>.for_blocks<4>().then(ls::selective);
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<32768>;
};
constexpr auto plan = ls::plan<config, ls::host::cpu>;
static_assert(plan.peak() <= 6 * ls::GiB);
static_assert(ls::parameter_count<config> > 120'000'000);

/// A field of /proc/self/status, as it stands there, in bytes; 0 where there is none.
double status_bytes(const std::string& field) {
    std::ifstream status("/proc/self/status");
    for (std::string line; std::getline(status, line);) {
        if (line.rfind(field, 0) == 0) return 1024 * std::stod(line.substr(field.size()));
    }
    return 0;
}

void one_step_within_6_gib(benchmark::State& state) {
    ls::trainer<config> trainer{ls::seed{1}};
    const ls::token_batch batch = one_document<config>();
    ls::step_report report;
    for (auto _ : state) {
        const auto before = std::chrono::steady_clock::now();
        report = trainer.step(std::span(&batch, 1), 1e-4);
        state.SetIterationTime(std::chrono::duration<double>(std::chrono::steady_clock::now() - before).count());
    }
    if (!report.refused.empty()) state.SkipWithError(report.refused.c_str());
    state.counters["planned_bytes"] = static_cast<double>(plan.peak());
    state.counters["step_bytes"] = static_cast<double>(report.high_water);
    state.counters["VmHWM_bytes"] = status_bytes("VmHWM:");
    state.counters["tokens"] = static_cast<double>(config::batch.budget);
    state.counters["parameters"] = static_cast<double>(ls::parameter_count<config>);
    state.counters["loss"] = report.loss;
}
BENCHMARK(one_step_within_6_gib)->UseManualTime()->MeasureProcessCPUTime()->Iterations(1)->Unit(benchmark::kSecond);

}  // namespace

BENCHMARK_MAIN();
