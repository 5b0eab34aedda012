// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/setmaxnreg.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static constexpr int held = 208;  // values a thread: more than the 168 registers that it starts with

/// Three warpgroups start with 168 registers each: two can only take 240 once the third has given 144 away. Each of their
/// threads holds 208 numbers at once: without the registers the compiler would spill, which tests/checks/ptxas refuses.
static __global__ void __launch_bounds__(384, 1) hold_many(const float* from, float* to) {
    if (threadIdx.x < 128) {
        ptx::give_registers<24>();
        if (threadIdx.x == 0) to[held * 256] = from[0];
    } else {
        ptx::take_registers<240>();
        const int thread = static_cast<int>(threadIdx.x) - 128;
        float value[held];
#pragma unroll
        for (int i = 0; i < held; ++i) value[i] = from[i * 256 + thread];
        // All are read before the first is written.
#pragma unroll
        for (int i = 0; i < held; ++i) asm volatile("" : "+f"(value[i])::"memory");
#pragma unroll
        for (int i = 0; i < held; ++i) to[(held - 1 - i) * 256 + thread] = value[i];
    }
}

TEST_CASE("registers that one warpgroup gives away, others hold numbers in") {
    const std::vector<float> values = random_values<float>(held * 256, 1);
    const device_array<float> from(values);
    device_array<float> to(held * 256 + 1);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    hold_many<<<1, 384, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(from.data(), to.data());
    longspan::cuda::check_launch("test");
    const std::vector<float> got = to.get();
    std::size_t equal = 0;
    for (std::size_t i = 0; i < held; ++i)
        for (std::size_t t = 0; t < 256; ++t) equal += got[(held - 1 - i) * 256 + t] == values[i * 256 + t];
    CHECK(equal == held * 256);
    CHECK(got.back() == values[0]);
}

}  // namespace cuda_test
