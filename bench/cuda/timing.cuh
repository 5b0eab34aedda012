// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of memory-bound ops share: device arrays, the GPU's own clock, and the yardstick, a copy within the device of
// 512 MiB in the same process. Every case moves far more than the second-level cache holds, so nothing is flushed between rounds.
#pragma once

#include <algorithm>
#include <cstdio>
#include <string>
#include <utility>
#include <vector>

#include <longspan/core/types.hpp>
#include <longspan/cuda/check.cuh>

namespace measure {

using longspan::index;

/// `count` elements of device memory.
template <class T>
class device_values {
public:
    explicit device_values(index count, int byte = 0) : count_(count) {
        const auto size = static_cast<std::size_t>(count) * sizeof(T);
        longspan::cuda::check(cudaMalloc(&data_, size), "bench", static_cast<longspan::bytes>(size));
        longspan::cuda::check(cudaMemset(data_, byte, size), "bench");
        longspan::cuda::check(cudaDeviceSynchronize(), "bench");
    }
    explicit device_values(const std::vector<T>& values) : device_values(static_cast<index>(values.size())) {
        longspan::cuda::check(cudaMemcpy(data_, values.data(), values.size() * sizeof(T), cudaMemcpyHostToDevice), "bench");
    }
    device_values(device_values&& other) noexcept : data_(std::exchange(other.data_, nullptr)), count_(other.count_) {}
    ~device_values() { cudaFree(data_); }

    [[nodiscard]] T* data() const { return data_; }
    [[nodiscard]] std::size_t size() const { return static_cast<std::size_t>(count_); }

private:
    T* data_ = nullptr;
    index count_;
};

/// Microseconds.
struct spread {
    double p10 = 0, median = 0, p90 = 0;
};

class device_clock {
public:
    device_clock() { longspan::cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "bench"); }
    device_clock(const device_clock&) = delete;
    ~device_clock() { cudaStreamDestroy(stream_); }

    [[nodiscard]] cudaStream_t stream() const { return stream_; }

    /// Of one call of `work` among `rounds` calls back to back, after two to warm up.
    template <class Work>
    [[nodiscard]] spread time(Work&& work, int rounds = 21) const {
        std::vector<cudaEvent_t> marks(static_cast<std::size_t>(rounds) + 1);
        for (auto& mark : marks) longspan::cuda::check(cudaEventCreate(&mark), "bench");
        work(), work();
        cudaEventRecord(marks[0], stream_);
        for (std::size_t i = 1; i < marks.size(); ++i) {
            work();
            cudaEventRecord(marks[i], stream_);
        }
        longspan::cuda::check(cudaStreamSynchronize(stream_), "bench");
        std::vector<double> times;
        for (std::size_t i = 1; i < marks.size(); ++i) {
            float ms = 0;
            cudaEventElapsedTime(&ms, marks[i - 1], marks[i]);
            times.push_back(1000.0 * static_cast<double>(ms));
        }
        for (const auto mark : marks) cudaEventDestroy(mark);
        std::sort(times.begin(), times.end());
        const auto at = [&](double part) { return times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1) + 0.5)]; };
        return {at(0.1), at(0.5), at(0.9)};
    }

private:
    cudaStream_t stream_ = nullptr;
};

/// Prints a line of JSON a case, the first of them the yardstick's.
class memory_bound {
public:
    memory_bound() {
        const device_values<char> from(half), to(half);
        copy_rate_ = case_of("device copy", 2.0 * half, [&] { cudaMemcpyAsync(to.data(), from.data(), half, cudaMemcpyDeviceToDevice, stream()); });
    }
    [[nodiscard]] cudaStream_t stream() const { return clock_.stream(); }

    /// `bytes`: each input read once, each output written once. Returns bytes per microsecond.
    template <class Work>
    double case_of(const std::string& name, double bytes, Work&& work) const {
        const spread took = clock_.time(std::forward<Work>(work));
        const double rate = bytes / took.median;
        std::printf("{\"name\": \"%s\", \"mib\": %.1f, \"us\": %.1f, \"p10\": %.1f, \"p90\": %.1f, \"tb_per_s\": %.3f, \"of_copy\": %.3f}\n", name.c_str(),
                    bytes / 1048576.0, took.median, took.p10, took.p90, rate * 1e-6, copy_rate_ > 0 ? rate / copy_rate_ : 1.0);
        std::fflush(stdout);
        return rate;
    }

private:
    static constexpr index half = index{512} << 20;
    device_clock clock_;
    double copy_rate_ = 0;
};

}  // namespace measure
