// SPDX-License-Identifier: Apache-2.0
//
// First values of parameters, the rounded copy that a forward pass reads, and rounded sums. Normals are the host's to the bit (core/normal.hpp):
// a run starts from the same parameters wherever it runs, and weights
// that are the only copy from what masters would be rounded to.
#pragma once

#include <span>

#include <longspan/core/normal.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

namespace detail {

inline constexpr int fill_threads = 256;
inline constexpr std::uint32_t initial_site = 0x696e6974;  // apart from every draw_site; the host's

template <class T>
__global__ void fill_kernel(T* values, index count, T value) {
    for (index i = blockIdx.x * index{fill_threads} + threadIdx.x; i < count; i += gridDim.x * index{fill_threads}) values[i] = value;
}

template <class T>
__global__ void fill_normal_kernel(T* values, index count, philox_key key, double deviation) {
    for (index block = blockIdx.x * index{fill_threads} + threadIdx.x; 4 * block < count; block += gridDim.x * index{fill_threads}) {
        const normal_block drawn = normals(philox4x32(element_counter(block), key));
#pragma unroll
        for (int j = 0; j < 4; ++j) {
            if (4 * block + j < count) values[4 * block + j] = static_cast<T>(static_cast<float>(static_cast<double>(drawn.value[j]) * deviation));
        }
    }
}

template <class Master, class Weight>
__global__ void round_kernel(const Master* masters, Weight* weights, index count) {
    constexpr int n = 4;
    for (index i = n * (blockIdx.x * index{fill_threads} + threadIdx.x); i < count; i += n * (gridDim.x * index{fill_threads})) {
        if (i + n <= count) {
            float values[n];
            read(masters + i, values);
            write(weights + i, values);
        } else {
            for (index j = i; j < count; ++j) weights[j] = narrow<Weight>(masters[j]);
        }
    }
}

template <class From, class To>
__global__ void add_rounded_kernel(const From* from, To* to, index count) {
    constexpr int n = 4;
    for (index i = n * (blockIdx.x * index{fill_threads} + threadIdx.x); i < count; i += n * (gridDim.x * index{fill_threads})) {
        if (i + n <= count) {
            float added[n], sums[n];
            read(from + i, added);
            read(to + i, sums);
#pragma unroll
            for (int j = 0; j < n; ++j) sums[j] += added[j];
            write(to + i, sums);
        } else {
            for (index j = i; j < count; ++j) to[j] = narrow<To>(widen(to[j]) + widen(from[j]));
        }
    }
}

/// Enough CTAs for `items` threads of work; more wait in line.
[[nodiscard]] inline unsigned fill_grid(index items) {
    const index ctas = ceil_div(items, fill_threads);
    return static_cast<unsigned>(ctas < 65536 ? ctas : 65536);
}

}  // namespace detail

/// Every element = value, rounded once.
template <class T>
void fill(stream_ref stream, std::span<T> values, double value) {
    if (values.empty()) return;
    const index count = static_cast<index>(values.size());
    detail::fill_kernel<<<detail::fill_grid(count), detail::fill_threads, 0, stream>>>(values.data(), count, static_cast<T>(static_cast<float>(value)));
    check_launch("fill");
}

/// Normals of the given deviation; a function of (seed, ordinal) and the element alone.
template <class T>
    requires std::is_same_v<T, float> || std::is_same_v<T, bf16>
void fill_normal(stream_ref stream, std::span<T> values, std::uint64_t seed, std::uint32_t ordinal, double deviation) {
    if (values.empty()) return;
    const philox_key key = key_of({.seed = seed, .step = 0, .layer = ordinal, .site = detail::initial_site});
    const index count = static_cast<index>(values.size());
    detail::fill_normal_kernel<<<detail::fill_grid(ceil_div(count, 4)), detail::fill_threads, 0, stream>>>(values.data(), count, key, deviation);
    check_launch("fill_normal");
}

/// weights = masters, each to nearest even; both start at multiples of 16 bytes.
template <class Master, class Weight>
    requires std::is_same_v<std::remove_const_t<Master>, float>
void round(stream_ref stream, std::span<Master> masters, std::span<Weight> weights) {
    expects(masters.size() == weights.size(), [&] {
        return "round: expected spans of one length, got " + std::to_string(masters.size()) + " masters and " + std::to_string(weights.size()) + " weights";
    });
    if (masters.empty()) return;
    expect_pointer("round", "masters", masters.data(), 16);
    expect_pointer("round", "weights", weights.data(), 16);
    const index count = static_cast<index>(masters.size());
    detail::round_kernel<<<detail::fill_grid(ceil_div(count, 4)), detail::fill_threads, 0, stream>>>(masters.data(), weights.data(), count);
    check_launch("round");
}

/// to += from, each sum to nearest even once; both start at multiples of 16 bytes.
template <class From, class To>
    requires std::is_same_v<std::remove_const_t<From>, float>
void add_rounded(stream_ref stream, std::span<From> from, std::span<To> to) {
    expects(from.size() == to.size(), [&] {
        return "add_rounded: expected spans of one length, got " + std::to_string(from.size()) + " values and " + std::to_string(to.size()) + " sums";
    });
    if (from.empty()) return;
    expect_pointer("add_rounded", "values", from.data(), 16);
    expect_pointer("add_rounded", "sums", to.data(), 16);
    const index count = static_cast<index>(from.size());
    detail::add_rounded_kernel<<<detail::fill_grid(ceil_div(count, 4)), detail::fill_threads, 0, stream>>>(from.data(), to.data(), count);
    check_launch("add_rounded");
}

}  // namespace longspan::cuda
