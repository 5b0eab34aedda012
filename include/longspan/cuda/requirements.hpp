// SPDX-License-Identifier: Apache-2.0
//
// What a program asks of a GPU before it allocates anything there, as a function of values: it answers to a program that found none,
// and is tested without one.
#pragma once

#include <string>

#include <longspan/cuda/device_error.hpp>

namespace longspan::cuda {

/// What the driver, cuBLASLt and the recorded step take beside the plan, with room to spare.
inline constexpr bytes reserve = 1 * GiB;

/// A GPU as far as it decides whether a program can run on it.
struct found_gpu {
    std::string name;         ///< empty: none answers, for CUDA's reason `why_not`
    int major = 0, minor = 0; ///< compute capability
    bool has_code = false;    ///< this program holds kernels for it
    bytes free = 0, total = 0;
    std::string why_not = "cudaErrorNoDevice";
};

/// Throws device_error when there is no GPU, when it is older than sm_80, or when the program was built for another; out_of_memory,
/// with the room that there is for a plan, when `needed` bytes and the reserve are more than it has free.
inline void expect_gpu(const found_gpu& gpu, bytes needed) {
    constexpr const char* asks = "a plan for cuda::device";
    if (gpu.name.empty()) throw device_error(asks, gpu.why_not, "no NVIDIA GPU answers; the host backend needs none");
    const std::string called = gpu.name + ", compute capability " + std::to_string(gpu.major) + "." + std::to_string(gpu.minor);
    if (gpu.major < 8) throw device_error(asks, "too old a GPU", "expected compute capability 8.0 or later, got " + called);
    if (!gpu.has_code)
        throw device_error(asks, "built for another GPU", "this program holds no code for " + called + "; build it with CMAKE_CUDA_ARCHITECTURES=native");
    const bytes room = gpu.free > reserve ? gpu.free - reserve : 0;
    if (needed > room)
        throw out_of_memory("the plan needs " + std::to_string(needed) + " bytes, and " + std::to_string(reserve) +
                                " more are kept for the driver, libraries and the recorded step; of the " + std::to_string(gpu.total) + " bytes of " +
                                called + ", " + std::to_string(gpu.free) + " are free: a plan may take " + std::to_string(room),
                            room);
}

}  // namespace longspan::cuda
