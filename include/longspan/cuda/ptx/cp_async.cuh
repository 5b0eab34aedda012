// SPDX-License-Identifier: Apache-2.0
//
// Copies from device to shared memory that a thread starts and does not wait for (sm_80): one instruction a function.
// Reference: PTX ISA, "cp.async".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

/// The address that PTX wants for a pointer into shared memory.
__device__ __forceinline__ std::uint32_t shared_address(const void* at) { return static_cast<std::uint32_t>(__cvta_generic_to_shared(at)); }

/// 16 bytes past L1, or 16 zeros unless `live`; `from` is a valid address either way. Both at multiples of 16.
__device__ __forceinline__ void copy_16(std::uint32_t to, const void* from, bool live) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(to), "l"(from), "r"(live ? 16 : 0) : "memory");
}

/// 8 bytes or zeros, likewise.
__device__ __forceinline__ void copy_8(std::uint32_t to, const void* from, bool live) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 8, %2;" ::"r"(to), "l"(from), "r"(live ? 8 : 0) : "memory");
}

/// 4 bytes.
__device__ __forceinline__ void copy_4(std::uint32_t to, const void* from) {
    asm volatile("cp.async.ca.shared.global [%0], [%1], 4;" ::"r"(to), "l"(from) : "memory");
}

/// Closes this thread's group of copies.
__device__ __forceinline__ void commit_copies() { asm volatile("cp.async.commit_group;" ::: "memory"); }

/// Waits until at most Pending of this thread's groups are under way.
template <int Pending>
__device__ __forceinline__ void wait_copies() {
    asm volatile("cp.async.wait_group %0;" ::"n"(Pending) : "memory");
}

}  // namespace longspan::cuda::ptx
