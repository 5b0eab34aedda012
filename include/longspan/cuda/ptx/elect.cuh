// SPDX-License-Identifier: Apache-2.0
//
// One lane of a whole warp (sm_90). Reference: PTX ISA, "elect.sync".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

/// True for one lane, always the same.
__device__ __forceinline__ bool elect() {
    std::uint32_t chosen;
    asm volatile("{\n.reg .pred p;\nelect.sync _|p, 0xffffffff;\nselp.u32 %0, 1, 0, p;\n}" : "=r"(chosen));
    return chosen != 0;
}

}  // namespace longspan::cuda::ptx
