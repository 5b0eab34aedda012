// SPDX-License-Identifier: Apache-2.0
//
// Shared memory by its 32-bit address: one instruction a function. Vectors lie at multiples of their size.
// Reference: PTX ISA, "ld" and "st".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ std::uint32_t load_byte(std::uint32_t at) {
    std::uint32_t value;
    asm volatile("ld.shared.u8 %0, [%1];" : "=r"(value) : "r"(at) : "memory");
    return value;
}
__device__ __forceinline__ std::uint32_t load_word(std::uint32_t at) {
    std::uint32_t value;
    asm volatile("ld.shared.u32 %0, [%1];" : "=r"(value) : "r"(at) : "memory");
    return value;
}
__device__ __forceinline__ uint4 load_words(std::uint32_t at) {
    uint4 value;
    asm volatile("ld.shared.v4.u32 {%0, %1, %2, %3}, [%4];" : "=r"(value.x), "=r"(value.y), "=r"(value.z), "=r"(value.w) : "r"(at) : "memory");
    return value;
}
__device__ __forceinline__ float load_float(std::uint32_t at) {
    float value;
    asm volatile("ld.shared.f32 %0, [%1];" : "=f"(value) : "r"(at) : "memory");
    return value;
}
__device__ __forceinline__ float2 load_two_floats(std::uint32_t at) {
    float2 value;
    asm volatile("ld.shared.v2.f32 {%0, %1}, [%2];" : "=f"(value.x), "=f"(value.y) : "r"(at) : "memory");
    return value;
}
__device__ __forceinline__ float4 load_four_floats(std::uint32_t at) {
    float4 value;
    asm volatile("ld.shared.v4.f32 {%0, %1, %2, %3}, [%4];" : "=f"(value.x), "=f"(value.y), "=f"(value.z), "=f"(value.w) : "r"(at) : "memory");
    return value;
}

__device__ __forceinline__ void store(std::uint32_t at, std::uint32_t value) {
    asm volatile("st.shared.u32 [%0], %1;" ::"r"(at), "r"(value) : "memory");
}
__device__ __forceinline__ void store(std::uint32_t at, uint2 value) {
    asm volatile("st.shared.v2.u32 [%0], {%1, %2};" ::"r"(at), "r"(value.x), "r"(value.y) : "memory");
}
__device__ __forceinline__ void store(std::uint32_t at, uint4 value) {
    asm volatile("st.shared.v4.u32 [%0], {%1, %2, %3, %4};" ::"r"(at), "r"(value.x), "r"(value.y), "r"(value.z), "r"(value.w) : "memory");
}
__device__ __forceinline__ void store(std::uint32_t at, float2 value) {
    asm volatile("st.shared.v2.f32 [%0], {%1, %2};" ::"r"(at), "f"(value.x), "f"(value.y) : "memory");
}
__device__ __forceinline__ void store(std::uint32_t at, float4 value) {
    asm volatile("st.shared.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(at), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w) : "memory");
}

}  // namespace longspan::cuda::ptx
