// SPDX-License-Identifier: Apache-2.0
//
// What tests on a GPU share: device arrays with poisoned contents between guard zones, random values, comparisons in double.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstring>
#include <random>
#include <vector>

#include <doctest/doctest.h>

#include <longspan/core/view.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/stream.hpp>
#include <longspan/precision/format.hpp>

namespace cuda_test {

using longspan::bytes;
using longspan::index;

/// A stream of the test's own.
class own_stream {
public:
    own_stream() { longspan::cuda::check(cudaStreamCreateWithFlags(&stream_, cudaStreamNonBlocking), "test stream"); }
    ~own_stream() { cudaStreamDestroy(stream_); }
    own_stream(const own_stream&) = delete;
    operator longspan::cuda::stream_ref() const { return stream_; }
    void wait() const { longspan::cuda::check(cudaStreamSynchronize(stream_), "test stream"); }

private:
    cudaStream_t stream_ = nullptr;
};

/// `count` elements of device memory, all bits of them set (a NaN in every format), between guard zones of 1 KiB which
/// the destructor looks at.
template <class T>
class device_array {
    static constexpr std::size_t guard = 1024;
    static constexpr unsigned char mark = 0xA5;

public:
    explicit device_array(std::size_t count) : count_(count) {
        void* at = nullptr;
        longspan::cuda::check(cudaMalloc(&at, room()), "test array", static_cast<bytes>(room()));
        base_ = static_cast<unsigned char*>(at);
        longspan::cuda::check(cudaMemset(base_, mark, room()), "test array");
        poison();
    }
    explicit device_array(const std::vector<T>& values) : device_array(values.size()) { put(values); }
    device_array(const device_array&) = delete;
    ~device_array() {
        CHECK_MESSAGE(intact(), "bytes outside an array were written");
        cudaFree(base_);
    }

    [[nodiscard]] T* data() { return reinterpret_cast<T*>(base_ + guard); }
    [[nodiscard]] const T* data() const { return reinterpret_cast<const T*>(base_ + guard); }
    [[nodiscard]] std::size_t size() const { return count_; }
    [[nodiscard]] longspan::matrix_view<T> view(index rows, index columns, index stride = 0) {
        return {data(), rows, columns, stride == 0 ? columns : stride};
    }
    [[nodiscard]] longspan::matrix_view<const T> constants(index rows, index columns, index stride = 0) const {
        return {data(), rows, columns, stride == 0 ? columns : stride};
    }

    // These wait: a stream of the test's own would not.
    void poison() { set(0xFF); }
    void zero() { set(0); }
    void put(const std::vector<T>& values) {
        longspan::cuda::check(cudaMemcpy(data(), values.data(), count_ * sizeof(T), cudaMemcpyHostToDevice), "test array");
        longspan::cuda::check(cudaDeviceSynchronize(), "test array");
    }
    /// Waits for the whole device, then copies.
    [[nodiscard]] std::vector<T> get() const {
        longspan::cuda::check(cudaDeviceSynchronize(), "test array");
        std::vector<T> values(count_);
        longspan::cuda::check(cudaMemcpy(values.data(), data(), count_ * sizeof(T), cudaMemcpyDeviceToHost), "test array");
        return values;
    }
    /// Whether both guard zones are as they were.
    [[nodiscard]] bool intact() const {
        std::vector<unsigned char> zone(guard);
        for (const std::size_t at : {std::size_t{0}, room() - guard}) {
            if (cudaMemcpy(zone.data(), base_ + at, guard, cudaMemcpyDeviceToHost) != cudaSuccess) return false;
            if (std::any_of(zone.begin(), zone.end(), [](unsigned char byte) { return byte != mark; })) return false;
        }
        return true;
    }

private:
    void set(int byte) {
        longspan::cuda::check(cudaMemset(data(), byte, count_ * sizeof(T)), "test array");
        longspan::cuda::check(cudaDeviceSynchronize(), "test array");
    }
    [[nodiscard]] std::size_t room() const { return 2 * guard + count_ * sizeof(T); }

    std::size_t count_;
    unsigned char* base_ = nullptr;
};

/// Normals of the given deviation, rounded to T; the same for the same seed.
template <class T>
[[nodiscard]] std::vector<T> random_values(std::size_t count, unsigned seed, double deviation = 1.0) {
    std::mt19937_64 engine(seed);
    std::normal_distribution<double> normal(0.0, deviation);
    std::vector<T> values(count);
    for (T& x : values) x = longspan::from_compute<T>(static_cast<longspan::compute_t<T>>(normal(engine)));
    return values;
}

/// As doubles.
template <class T>
[[nodiscard]] std::vector<double> doubles(const std::vector<T>& values) {
    std::vector<double> result(values.size());
    std::transform(values.begin(), values.end(), result.begin(), [](T x) { return static_cast<double>(longspan::to_compute(x)); });
    return result;
}

/// √(Σ (a − b)² / Σ b²); NaN when an element is.
[[nodiscard]] inline double relative_error(const std::vector<double>& a, const std::vector<double>& b) {
    REQUIRE(a.size() == b.size());
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += b[i] * b[i];
    }
    return size > 0 ? std::sqrt(difference / size) : std::sqrt(difference);
}

/// Holds a result against the exact values rounded once to T: an RMS error at most 1.05 times theirs; floats may be off by `sums`.
template <class T>
void check_rounded_once(const std::vector<T>& got, const std::vector<double>& exact, double sums) {
    std::vector<T> rounded;
    for (const double value : exact) rounded.push_back(longspan::from_compute<T>(static_cast<longspan::compute_t<T>>(value)));
    CHECK(relative_error(doubles(got), exact) <= std::max(1.05 * relative_error(doubles(rounded), exact), sizeof(T) == sizeof(float) ? sums : 0.0));
}

/// Equal bit for bit, NaNs too.
template <class T>
[[nodiscard]] bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0;
}

}  // namespace cuda_test
