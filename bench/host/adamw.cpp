// SPDX-License-Identifier: Apache-2.0
// The update should run at the memory's speed: 28 bytes a parameter in float, 30 with a two-byte copy. memcpy of as many bytes
// is the peer.
#include <benchmark/benchmark.h>
#include <longspan/host/adamw.hpp>
#include <longspan/optim/adamw.hpp>

#include <cstring>
#include <vector>

namespace ls = longspan;

namespace {

template <class Weight>
void adamw(benchmark::State& state) {
    const auto n = static_cast<std::size_t>(state.range(0));
    std::vector<float> masters(n, 1.0F), gradients(n, 0.5F), first(n), second(n);
    std::vector<Weight> weights(std::is_same_v<Weight, float> ? 0 : n);
    const auto update = ls::prepare({}, ls::decay_group::matrix, 10, 1e-3, 1.0);
    for (auto _ : state) {
        ls::host::adamw_step(std::span(masters), std::span(weights), gradients, first, second, update);
        benchmark::ClobberMemory();
    }
    const auto bytes = static_cast<double>(n * (7 * sizeof(float) + (weights.empty() ? 0 : sizeof(Weight))));
    state.counters["bytes/s"] = benchmark::Counter(bytes, benchmark::Counter::kIsIterationInvariantRate);
    state.SetItemsProcessed(state.iterations() * state.range(0));
}

void copy(benchmark::State& state) {
    const auto n = static_cast<std::size_t>(state.range(0));
    std::vector<float> from(n, 1.0F), to(n);
    for (auto _ : state) {
        std::memcpy(to.data(), from.data(), n * sizeof(float));
        benchmark::ClobberMemory();
    }
    state.counters["bytes/s"] =
        benchmark::Counter(static_cast<double>(2 * n * sizeof(float)), benchmark::Counter::kIsIterationInvariantRate);
}

BENCHMARK(adamw<float>)->Arg(1 << 16)->Arg(1 << 24)->UseRealTime();
BENCHMARK(adamw<ls::bf16>)->Arg(1 << 24)->UseRealTime();
BENCHMARK(copy)->Arg(7 << 21)->UseRealTime();

}  // namespace

BENCHMARK_MAIN();
