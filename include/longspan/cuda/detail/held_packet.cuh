// SPDX-License-Identifier: Apache-2.0
//
// A packet that was read and not yet used: a fourth of the registers that its floats will take.
#pragma once

#include <bit>
#include <type_traits>

#include <longspan/cuda/packet.cuh>

namespace longspan::cuda::detail {

/// A packet as one register value: it may be loaded under a condition and widened later without being taken apart between.
template <class T, int N>
struct held_packet {
    static constexpr int size = N * static_cast<int>(sizeof(T));
    using word = std::conditional_t<size == 16, uint4, std::conditional_t<size == 8, uint2, std::conditional_t<size == 4, unsigned, unsigned short>>>;
    static_assert(sizeof(word) == size);
    word bits;

    __device__ __forceinline__ void load(const T* from) { bits = *reinterpret_cast<const word*>(from); }
    __device__ __forceinline__ void store(T* to) const { *reinterpret_cast<word*>(to) = bits; }
    /// The same for what nobody reads again soon: it makes no room in the caches at the cost of what they hold.
    __device__ __forceinline__ void load_once(const T* from) { bits = __ldcs(reinterpret_cast<const word*>(from)); }
    __device__ __forceinline__ void store_once(T* to) const { __stcs(reinterpret_cast<word*>(to), bits); }
    __device__ __forceinline__ float operator[](int i) const { return widen(std::bit_cast<packet<T, N>>(bits).value[i]); }
};

}  // namespace longspan::cuda::detail
