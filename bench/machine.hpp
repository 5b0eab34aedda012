// SPDX-License-Identifier: Apache-2.0
// The yardstick: what Eigen's sgemm does at 512 x 512 x 512 with all threads, measured in the same process and in turns with the
// work that is held against it, so that a machine which slows down slows both.
//
// Every benchmark reports two ratios: by the clock on the wall (the figure), and by the process's CPU seconds, which a busy
// neighbour does not spoil but which does not see idle threads either.
#pragma once

#include <benchmark/benchmark.h>

#include <algorithm>
#include <chrono>
#include <ctime>
#include <string>
#include <vector>

#include <Eigen/Core>

#include <longspan/host/parallel.hpp>

namespace measure {

/// Seconds on the wall, and of all threads of this process.
struct seconds {
    double wall = 0, cpu = 0;
};

inline seconds now() {
    timespec cpu{};
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &cpu);
    return {std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(),
            static_cast<double>(cpu.tv_sec) + 1e-9 * static_cast<double>(cpu.tv_nsec)};
}

template <class F>
seconds time(F&& f) {
    const seconds from = now();
    f();
    const seconds to = now();
    return {to.wall - from.wall, to.cpu - from.cpu};
}

inline double median(std::vector<double> values) {
    if (values.empty()) return 0;
    const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
    std::nth_element(values.begin(), middle, values.end());
    return *middle;
}

/// FLOP/s of 512^3 by either clock. Eigen's own parallel product is held back by its barriers where cores are shared, and would
/// flatter us: a product of its own on every thread is the other candidate, and the faster of the two counts.
class yardstick {
public:
    static constexpr int n = 512, products = 6;
    static constexpr double flops = 2.0 * n * n * n;

    seconds sample() {
        const int threads = longspan::host::threads();
        while (own_.size() < static_cast<std::size_t>(threads)) own_.emplace_back();
        longspan::host::parallel_for(threads, [&](longspan::index i) { own_[static_cast<std::size_t>(i)].multiply(1); });  // warms the caches
        const seconds apart = time([&] {
            longspan::host::parallel_for(threads, [&](longspan::index i) { own_[static_cast<std::size_t>(i)].multiply(products); });
        });
        const double all = products * flops * threads;
        if (threads == 1) return {all / apart.wall, all / apart.cpu};
        const seconds together = time([&] { own_[0].multiply(products); });
        return {std::max(all / apart.wall, products * flops / together.wall), std::max(all / apart.cpu, products * flops / together.cpu)};
    }

private:
    struct operands {
        Eigen::MatrixXf a = Eigen::MatrixXf::Random(n, n), b = Eigen::MatrixXf::Random(n, n), c = Eigen::MatrixXf::Zero(n, n);
        void multiply(int times) {
            for (int i = 0; i < times; ++i) {
                c.noalias() = a * b;
                benchmark::ClobberMemory();
            }
        }
    };
    std::vector<operands> own_;  // one a thread
};

inline yardstick& machine() {
    static yardstick only;
    return only;
}

/// What `run` came to.
struct measurement {
    std::vector<double> wall, cpu;            ///< seconds of each round
    std::vector<double> gemm_wall, gemm_cpu;  ///< FLOP/s of the yardstick, in turns with them
    [[nodiscard]] double seconds() const { return median(wall); }
    /// Seconds per second that `flops` would take at the yardstick's rate: 1 is as fast.
    [[nodiscard]] double times_products(double flops) const { return median(wall) * median(gemm_wall) / flops; }
    [[nodiscard]] double times_products_cpu(double flops) const { return median(cpu) * median(gemm_cpu) / flops; }
};

/// Runs f once unmeasured, then once a round, with a look at the yardstick at least every 0.1 s.
template <class F>
measurement run(benchmark::State& state, F&& f) {
    measurement m;
    f();
    double looked = 0;
    for (auto _ : state) {
        if (const double at = now().wall; at - looked > 0.1) {
            const seconds rate = machine().sample();
            m.gemm_wall.push_back(rate.wall);
            m.gemm_cpu.push_back(rate.cpu);
            looked = now().wall;
        }
        const seconds took = time(f);
        m.wall.push_back(took.wall);
        m.cpu.push_back(took.cpu);
        state.SetIterationTime(took.wall);
    }
    return m;
}

inline void count_flops(benchmark::State& state, const measurement& m, double flops) {
    state.counters["FLOP/s"] = flops / m.seconds();
    state.counters["gemm_512_FLOP/s"] = median(m.gemm_wall);
    state.counters["gemm_512_FLOP/cpu_s"] = median(m.gemm_cpu);
    state.counters["share_of_gemm_512"] = 1 / m.times_products(flops);
    state.counters["share_of_gemm_512_cpu"] = 1 / m.times_products_cpu(flops);
}

/// For work that the memory bounds: bytes read and written once.
inline void count_bytes(benchmark::State& state, const measurement& m, double bytes) {
    state.counters["bytes/s"] = bytes / m.seconds();
    state.counters["ns_per_KB_cpu"] = 1e12 * median(m.cpu) / bytes;
}

/// What the figures depend on, into the head of the JSON.
inline void describe_machine() {
    benchmark::AddCustomContext("threads", std::to_string(longspan::host::threads()));
    benchmark::AddCustomContext("compiler", std::string(__VERSION__));
    benchmark::AddCustomContext("eigen", std::to_string(EIGEN_WORLD_VERSION) + "." + std::to_string(EIGEN_MAJOR_VERSION) + "." +
                                             std::to_string(EIGEN_MINOR_VERSION) + ", " + Eigen::SimdInstructionSetsInUse());
}

}  // namespace measure

#define LONGSPAN_BENCH_MAIN()                                             \
    int main(int count, char** words) {                                   \
        benchmark::Initialize(&count, words);                             \
        if (benchmark::ReportUnrecognizedArguments(count, words)) return 1; \
        measure::describe_machine();                                      \
        benchmark::RunSpecifiedBenchmarks();                              \
        benchmark::Shutdown();                                            \
    }
