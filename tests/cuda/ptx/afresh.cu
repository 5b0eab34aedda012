// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/afresh.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static __global__ void ask(std::uint32_t* values, int* threads) {
    const std::uint32_t given = values[threadIdx.x];
    values[threadIdx.x] = ptx::afresh(given) * 2u + ptx::afresh(given);
    threads[threadIdx.x] = ptx::thread_x();
}

TEST_CASE("a value asked afresh is the same value") {
    std::vector<std::uint32_t> given;
    for (std::uint32_t i = 0; i < 96; ++i) given.push_back(0x9E3779B9u * i);
    device_array<std::uint32_t> values(given);
    device_array<int> threads(96);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    ask<<<1, 96, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(values.data(), threads.data());
    longspan::cuda::check_launch("test");
    const std::vector<std::uint32_t> got = values.get();
    const std::vector<int> who = threads.get();
    for (std::uint32_t i = 0; i < 96; ++i) {
        CHECK(got[i] == 3u * given[i]);
        CHECK(who[i] == static_cast<int>(i));
    }
}

}  // namespace cuda_test
