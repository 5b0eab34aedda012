// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/barrier.cuh>

namespace cuda_test {

/// Pairs of warps exchange words, each pair at its own barrier and as often as it likes.
static __global__ void exchange(int* to) {
    __shared__ volatile int room[256];
    const int thread = static_cast<int>(threadIdx.x), pair = thread / 64;
    int value = thread;
    for (int round = 0; round < 10 * (pair + 1) + 1; ++round) {
        room[thread] = value;
        longspan::cuda::ptx::wait_for_threads(1 + pair, 64);
        value = room[thread ^ 32];
        longspan::cuda::ptx::wait_for_threads(1 + pair, 64);
    }
    to[thread] = value;
}

TEST_CASE("pairs of warps wait for each other only") {
    device_array<int> to(256);
    const own_stream stream;
    exchange<<<1, 256, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(to.data());
    longspan::cuda::check_launch("test");
    const std::vector<int> got = to.get();
    for (int i = 0; i < 256; ++i) CHECK(got[static_cast<std::size_t>(i)] == (i ^ 32));
}

}  // namespace cuda_test
