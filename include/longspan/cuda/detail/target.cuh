// SPDX-License-Identifier: Apache-2.0
//
// What the GPUs that this is compiled for have room for, known to host and device code alike: kernels' shapes depend on it.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan::cuda::detail {

/// Bytes of shared memory of a thread block on a GPU of compute capability `target` / 100 (CUDA C++ Programming Guide, technical
/// specifications per compute capability).
[[nodiscard]] constexpr int shared_memory_of(int target) {
    if (target < 800) return 64 << 10;
    if (target == 800 || target == 870) return 163 << 10;
    return target < 900 || target >= 1200 ? 99 << 10 : 227 << 10;
}

/// The least of all targets of this build, of which nvcc tells both its compilers.
[[nodiscard]] constexpr int shared_memory_of_targets() {
#if defined(__CUDA_ARCH_LIST__)
    constexpr int targets[] = {__CUDA_ARCH_LIST__};
#else
    constexpr int targets[] = {900};
#endif
    int least = shared_memory_of(targets[0]);
    for (const int target : targets) least = shared_memory_of(target) < least ? shared_memory_of(target) : least;
    return least;
}
inline constexpr int most_shared_memory = shared_memory_of_targets();
inline constexpr bool before_hopper = most_shared_memory < shared_memory_of(900);  ///< one of them at least

}  // namespace longspan::cuda::detail
