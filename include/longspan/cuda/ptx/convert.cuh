// SPDX-License-Identifier: Apache-2.0
//
// Conversions that the hardware has an instruction for (sm_80), and its base-2 exponential. References: PTX ISA, "cvt", "prmt", "ex2".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

/// Two floats to nearest even; `low` in the lower half.
__device__ __forceinline__ std::uint32_t pack_bf16(float low, float high) {
    std::uint32_t packed;
    asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}
__device__ __forceinline__ std::uint32_t pack_fp16(float low, float high) {
    std::uint32_t packed;
    asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(packed) : "f"(high), "f"(low));
    return packed;
}

/// Two halves, all ones where the sign of byte 0, or of byte 1, is set.
__device__ __forceinline__ std::uint32_t halves_by_sign(std::uint32_t bytes) {
    std::uint32_t mask;
    asm("prmt.b32 %0, %1, 0, 0x9988;" : "=r"(mask) : "r"(bytes));
    return mask;
}

/// To nearest with 10 mantissa bits, ties away from 0.
__device__ __forceinline__ std::uint32_t round_tf32(float value) {
    std::uint32_t rounded;
    asm("cvt.rna.tf32.f32 %0, %1;" : "=r"(rounded) : "f"(value));
    return rounded;
}

/// 2^x within 2 units in the last place; results below 2^-126 are 0.
__device__ __forceinline__ float exp2_fast(float x) {
    float raised;
    asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(raised) : "f"(x));
    return raised;
}

}  // namespace longspan::cuda::ptx
