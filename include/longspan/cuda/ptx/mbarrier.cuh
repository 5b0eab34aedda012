// SPDX-License-Identifier: Apache-2.0
//
// Barriers in shared memory (sm_90): a phase ends when the expected arrivals have come and the expected bytes have been copied.
// A waiter names the parity of the phase that it waits for. One instruction a function. Reference: PTX ISA, "mbarrier".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ void mbarrier_init(std::uint32_t at, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" ::"r"(at), "r"(arrivals) : "memory");
}

/// Makes initialised barriers known to the copy engine.
__device__ __forceinline__ void mbarrier_init_done() { asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory"); }

__device__ __forceinline__ void mbarrier_arrive(std::uint32_t at) {
    asm volatile("mbarrier.arrive.shared::cta.b64 _, [%0];" ::"r"(at) : "memory");
}

/// Arrives, and lets the phase wait for so many bytes too.
__device__ __forceinline__ void mbarrier_arrive_expect(std::uint32_t at, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(at), "r"(bytes) : "memory");
}

__device__ __forceinline__ bool mbarrier_try_wait(std::uint32_t at, std::uint32_t parity) {
    std::uint32_t done;
    asm volatile("{\n.reg .pred p;\nmbarrier.try_wait.parity.shared::cta.b64 p, [%1], %2;\nselp.u32 %0, 1, 0, p;\n}"
                 : "=r"(done)
                 : "r"(at), "r"(parity)
                 : "memory");
    return done != 0;
}

__device__ __forceinline__ void mbarrier_wait(std::uint32_t at, std::uint32_t parity) {
    while (!mbarrier_try_wait(at, parity)) {
    }
}

/// Shared memory that this thread wrote, before the copy engine or the tensor cores touch it.
__device__ __forceinline__ void fence_async_proxy() { asm volatile("fence.proxy.async.shared::cta;" ::: "memory"); }

/// The same of any memory.
__device__ __forceinline__ void fence_async_proxy_everywhere() { asm volatile("fence.proxy.async;" ::: "memory"); }

}  // namespace longspan::cuda::ptx
