// SPDX-License-Identifier: Apache-2.0
//
// Barriers among some warps of a thread block. Reference: PTX ISA, "barrier.cta".
#pragma once

namespace longspan::cuda::ptx {

/// Waits until `threads` threads (whole warps) of the block have come to barrier `id`: 1 to 15, since __syncthreads is number 0.
/// What they wrote to shared memory before, all of them see behind it.
__device__ __forceinline__ void wait_for_threads(int id, int threads) {
    asm volatile("barrier.cta.sync.aligned %0, %1;" ::"r"(id), "r"(threads) : "memory");
}

}  // namespace longspan::cuda::ptx
