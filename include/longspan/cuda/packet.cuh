// SPDX-License-Identifier: Apache-2.0
//
// N values that lie next to each other, moved in accesses of 16 bytes: what memory-bound kernels read and write. Arithmetic is on
// floats; a value is rounded once, to nearest even, where it is written.
#pragma once

#include <cstdint>
#include <type_traits>

#include <longspan/cuda/ptx/convert.cuh>
#include <longspan/precision/format.hpp>

namespace longspan::cuda {

/// The most elements of T that one 16-byte access moves and that divide `Count` of them.
template <class T, index Count>
inline constexpr int packet_elements = [] {
    int n = 16 / static_cast<int>(sizeof(T));
    while (Count % n != 0) n /= 2;
    return n;
}();
/// The same for tensors of several formats that are walked together.
template <index Count, class... T>
inline constexpr int common_packet = [] {
    int least = 16;
    ((least = packet_elements<std::remove_const_t<T>, Count> < least ? packet_elements<std::remove_const_t<T>, Count> : least), ...);
    return least;
}();

/// What an access of N elements of T starts at a multiple of.
template <class T, int N>
inline constexpr index packet_alignment = N * index{sizeof(T)} < 16 ? N * index{sizeof(T)} : 16;

template <class T, int N>
struct alignas(sizeof(T) * N < 16 ? sizeof(T) * N : 16) packet {
    T value[N];
};

namespace detail {

__device__ __forceinline__ float widen(float x) { return x; }
__device__ __forceinline__ float widen(bf16 x) { return static_cast<float>(x); }
__device__ __forceinline__ float widen(fp16 x) {
    float wide;
    asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
    return wide;
}
template <int Fraction>
__device__ __forceinline__ float widen(fixed_point<std::int32_t, Fraction> x) {
    return static_cast<float>(x);
}

}  // namespace detail

/// A stored value as a float.
template <class T>
__device__ __forceinline__ float widen(T stored) {
    return detail::widen(static_cast<std::remove_const_t<T>>(stored));
}

/// A float as the nearest stored value.
template <class T>
__device__ __forceinline__ T narrow(float value) {
    if constexpr (std::is_same_v<T, float>) {
        return value;
    } else {
        const std::uint32_t both = std::is_same_v<T, bf16> ? ptx::pack_bf16(value, 0.0f) : ptx::pack_fp16(value, 0.0f);
        return T::from_bits(static_cast<std::uint16_t>(both));
    }
}

/// N values from `at`, a multiple of their size (of 16 bytes at most).
template <int N, class T>
__device__ __forceinline__ void read(const T* at, float (&values)[N]) {
    const packet<T, N> taken = *reinterpret_cast<const packet<T, N>*>(at);
#pragma unroll
    for (int i = 0; i < N; ++i) values[i] = widen(taken.value[i]);
}

/// N values to `at`, each rounded once.
template <int N, class T>
__device__ __forceinline__ void write(T* at, const float (&values)[N]) {
    packet<T, N> made;
    if constexpr (std::is_same_v<T, float> || N == 1) {
#pragma unroll
        for (int i = 0; i < N; ++i) made.value[i] = narrow<T>(values[i]);
    } else {
#pragma unroll
        for (int i = 0; i < N; i += 2) {
            const std::uint32_t both = std::is_same_v<T, bf16> ? ptx::pack_bf16(values[i], values[i + 1]) : ptx::pack_fp16(values[i], values[i + 1]);
            made.value[i] = T::from_bits(static_cast<std::uint16_t>(both));
            made.value[i + 1] = T::from_bits(static_cast<std::uint16_t>(both >> 16));
        }
    }
    *reinterpret_cast<packet<T, N>*>(at) = made;
}

}  // namespace longspan::cuda
