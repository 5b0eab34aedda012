// SPDX-License-Identifier: Apache-2.0
//
// Values that a compiler takes for new each time, so that it does not keep what follows from them in registers.
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

/// The same value, of which the compiler knows nothing.
__device__ __forceinline__ std::uint32_t afresh(std::uint32_t value) {
    asm volatile("" : "+r"(value));
    return value;
}

/// threadIdx.x, asked again at every call.
__device__ __forceinline__ int thread_x() {
    int thread;
    asm volatile("mov.u32 %0, %%tid.x;" : "=r"(thread));
    return thread;
}

}  // namespace longspan::cuda::ptx
