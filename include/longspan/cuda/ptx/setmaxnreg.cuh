// SPDX-License-Identifier: Apache-2.0
//
// Registers move between warpgroups of a thread block (sm_90a): what copiers give up, those who multiply take. Each function is
// met by all warps of a warpgroup; the kernel needs __launch_bounds__(threads, 1). Reference: PTX ISA, "setmaxnreg".
#pragma once

namespace longspan::cuda::ptx {

template <int Registers>
__device__ __forceinline__ void give_registers() {
    static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" ::"n"(Registers));
}

template <int Registers>
__device__ __forceinline__ void take_registers() {
    static_assert(Registers % 8 == 0 && Registers >= 24 && Registers <= 256);
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" ::"n"(Registers));
}

}  // namespace longspan::cuda::ptx
