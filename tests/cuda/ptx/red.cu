// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/red.cuh>

namespace cuda_test {

static __global__ void add(const float4* values, float4* to) { longspan::cuda::ptx::add_in_memory(to + threadIdx.x, values[threadIdx.x]); }

TEST_CASE("memory adds four floats at a time") {
    const std::vector<float> before = random_values<float>(256, 1), values = random_values<float>(256, 2);
    const device_array<float> there(values);
    device_array<float> to(before);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    add<<<1, 64, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(reinterpret_cast<const float4*>(there.data()), reinterpret_cast<float4*>(to.data()));
    longspan::cuda::check_launch("test");
    const std::vector<float> got = to.get();
    for (std::size_t i = 0; i < 256; ++i) CHECK(got[i] == before[i] + values[i]);
}

}  // namespace cuda_test
