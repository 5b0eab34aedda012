// SPDX-License-Identifier: Apache-2.0
//
// A word in device memory by which thread blocks tell each other how far they are. Reference: PTX ISA, "ld", "st", "Memory
// Consistency Model".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

/// What is read after it is at least as new as what its writer had seen before its release.
__device__ __forceinline__ std::int32_t load_acquire(const std::int32_t* at) {
    std::int32_t value;
    asm volatile("ld.acquire.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}
/// Says nothing of other memory.
__device__ __forceinline__ std::int32_t load_relaxed(const std::int32_t* at) {
    std::int32_t value;
    asm volatile("ld.relaxed.gpu.global.s32 %0, [%1];" : "=r"(value) : "l"(at) : "memory");
    return value;
}
/// Everything that the thread has written, or has seen written, is in memory before it.
__device__ __forceinline__ void store_release(std::int32_t* at, std::int32_t value) {
    asm volatile("st.release.gpu.global.s32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}
__device__ __forceinline__ void store_relaxed(std::int32_t* at, std::int32_t value) {
    asm volatile("st.relaxed.gpu.global.s32 [%0], %1;" ::"l"(at), "r"(value) : "memory");
}

}  // namespace longspan::cuda::ptx
