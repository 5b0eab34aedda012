// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/ordered.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static constexpr int blocks = 64, cells = 96;

/// Blocks pass a row of sums on, in the order of their numbers: each adds to what the one before left, without atomics.
static __global__ void pass_on(int* sums, std::int32_t* mark, std::int32_t* relaxed) {
    const int mine = static_cast<int>(blockIdx.x);
    if (threadIdx.x == 0) {
        while (ptx::load_acquire(mark) != mine) {
        }
    }
    __syncthreads();
    const int i = static_cast<int>(threadIdx.x);
    sums[i] = 3 * sums[i] + mine * (i + 1);
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::store_relaxed(relaxed + mine, ptx::load_relaxed(mark) + 1000);
        ptx::store_release(mark, mine + 1);
    }
}

TEST_CASE("a mark in memory: who has read it sees what was written before it") {
    device_array<int> sums(cells);
    device_array<std::int32_t> mark(1), relaxed(blocks);
    sums.zero(), mark.zero();
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    pass_on<<<blocks, cells, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(sums.data(), mark.data(), relaxed.data());
    longspan::cuda::check_launch("test");
    const std::vector<int> got = sums.get();
    const std::vector<std::int32_t> seen = relaxed.get();
    for (int i = 0; i < cells; ++i) {
        std::uint32_t sum = 0;
        for (int b = 0; b < blocks; ++b) sum = 3 * sum + static_cast<std::uint32_t>(b * (i + 1));
        CHECK(static_cast<std::uint32_t>(got[static_cast<std::size_t>(i)]) == sum);
    }
    for (int b = 0; b < blocks; ++b) CHECK(seen[static_cast<std::size_t>(b)] == 1000 + b);
    CHECK(mark.get().front() == blocks);
}

}  // namespace cuda_test
