// SPDX-License-Identifier: Apache-2.0
//
// The 16 barriers of a thread block, by number; 0 is __syncthreads'. `threads` counts those who wait and those who only arrive.
// Reference: PTX ISA, "barrier".
#pragma once

namespace longspan::cuda::ptx {

__device__ __forceinline__ void barrier_wait(int id, int threads) { asm volatile("bar.sync %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

__device__ __forceinline__ void barrier_arrive(int id, int threads) { asm volatile("bar.arrive %0, %1;" ::"r"(id), "r"(threads) : "memory"); }

}  // namespace longspan::cuda::ptx
