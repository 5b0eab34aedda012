// SPDX-License-Identifier: Apache-2.0
//
// A packet that was read and not yet used: a fourth of the registers that its floats will take.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <longspan/cuda/packet.cuh>

namespace longspan::cuda::detail {

/// A packet as one register value: it may be loaded under a condition and widened later without being taken apart between.
template <class T, int N>
struct held_packet {
    static constexpr int size = N * static_cast<int>(sizeof(T));
    using word = std::conditional_t<size == 16, uint4, std::conditional_t<size == 8, uint2, std::conditional_t<size == 4, std::uint32_t, std::uint16_t>>>;
    static_assert(sizeof(word) == size);
    word bits;

    __device__ __forceinline__ void load(const T* from) { bits = *reinterpret_cast<const word*>(from); }
    __device__ __forceinline__ void store(T* to) const { *reinterpret_cast<word*>(to) = bits; }
    __device__ __forceinline__ float operator[](int i) const { return widen(std::bit_cast<packet<T, N>>(bits).value[i]); }
};

}  // namespace longspan::cuda::detail
