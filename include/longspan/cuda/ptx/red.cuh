// SPDX-License-Identifier: Apache-2.0
//
// Additions that memory itself performs, of which nothing comes back: half the traffic of reading, adding and writing. Where more
// than one block adds to an element, the caller orders them, or the sum depends on chance. Reference: PTX ISA, "red".
#pragma once

namespace longspan::cuda::ptx {

/// *to += value, four floats at a multiple of 16 bytes: one instruction from sm_90 on, four before.
__device__ __forceinline__ void add_in_memory(float4* to, float4 value) {
#if __CUDA_ARCH__ >= 900
    asm volatile("red.relaxed.gpu.global.add.v4.f32 [%0], {%1, %2, %3, %4};" ::"l"(to), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
                 : "memory");
#else
    asm volatile(
        "red.relaxed.gpu.global.add.f32 [%0], %1; red.relaxed.gpu.global.add.f32 [%0 + 4], %2;"
        "red.relaxed.gpu.global.add.f32 [%0 + 8], %3; red.relaxed.gpu.global.add.f32 [%0 + 12], %4;" ::"l"(to),
        "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w)
        : "memory");
#endif
}

}  // namespace longspan::cuda::ptx
