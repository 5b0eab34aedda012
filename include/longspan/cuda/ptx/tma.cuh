// SPDX-License-Identifier: Apache-2.0
//
// The copy engine (sm_90): boxes of a tensor between device and shared memory, started by one thread, their arrival counted by an
// mbarrier. Elements outside the tensor arrive as 0. Reference: PTX ISA, "cp.async.bulk.tensor" and "cp.reduce.async.bulk".
#pragma once

#include <cuda.h>

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ void prefetch_tensor_map(const CUtensorMap* map) {
    asm volatile("prefetch.tensormap [%0];" ::"l"(map) : "memory");
}

/// The box at (x, y, z), x along the innermost dimension.
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap* map, int x, int y, int z, std::uint32_t mbarrier) {
    asm volatile("cp.async.bulk.tensor.3d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5}], [%2];" ::"r"(to),
                 "l"(map), "r"(mbarrier), "r"(x), "r"(y), "r"(z)
                 : "memory");
}

/// The box at (x, y, z, w).
__device__ __forceinline__ void copy_box(std::uint32_t to, const CUtensorMap* map, int x, int y, int z, int w, std::uint32_t mbarrier) {
    asm volatile("cp.async.bulk.tensor.4d.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1, {%3, %4, %5, %6}], [%2];" ::"r"(to),
                 "l"(map), "r"(mbarrier), "r"(x), "r"(y), "r"(z), "r"(w)
                 : "memory");
}

/// `bytes` in a row, a multiple of 16, between addresses at multiples of 16.
__device__ __forceinline__ void copy_bulk(std::uint32_t to, const void* from, int bytes, std::uint32_t mbarrier) {
    asm volatile("cp.async.bulk.shared::cluster.global.mbarrier::complete_tx::bytes [%0], [%1], %2, [%3];" ::"r"(to), "l"(from), "r"(bytes),
                 "r"(mbarrier)
                 : "memory");
}
__device__ __forceinline__ void store_bulk(void* to, std::uint32_t from, int bytes) {
    asm volatile("cp.async.bulk.global.shared::cta.bulk_group [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}
/// Adds floats to what is there.
__device__ __forceinline__ void add_bulk(void* to, std::uint32_t from, int bytes) {
    asm volatile("cp.reduce.async.bulk.global.shared::cta.bulk_group.add.f32 [%0], [%1], %2;" ::"l"(to), "r"(from), "r"(bytes) : "memory");
}

/// Closes this thread's group of stores.
__device__ __forceinline__ void commit_bulk() { asm volatile("cp.async.bulk.commit_group;" ::: "memory"); }
/// Waits until all but Pending of this thread's groups have read their shared memory.
template <int Pending>
__device__ __forceinline__ void wait_bulk_read() {
    asm volatile("cp.async.bulk.wait_group.read %0;" ::"n"(Pending) : "memory");
}
/// Waits until all but Pending of them are done: others may read what was stored.
template <int Pending>
__device__ __forceinline__ void wait_bulk() {
    asm volatile("cp.async.bulk.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace longspan::cuda::ptx
