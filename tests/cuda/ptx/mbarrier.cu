// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/mbarrier.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static constexpr int rounds = 37, writers = 128;

/// Four warps write, a fifth reads: one barrier says that all have written, the other that all is read.
static __global__ void phases(int* sums, int* answers) {
    __shared__ alignas(8) std::uint64_t barriers[2];
    __shared__ int room[writers];
    const std::uint32_t full = ptx::shared_address(&barriers[0]), free = ptx::shared_address(&barriers[1]);
    const int thread = static_cast<int>(threadIdx.x);
    if (thread == 0) {
        ptx::mbarrier_init(full, writers);
        ptx::mbarrier_init(free, 32);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    if (thread == 0) {  // nobody has arrived: the first phase is open, the one before it over
        answers[0] = ptx::mbarrier_try_wait(full, 0);
        answers[1] = ptx::mbarrier_try_wait(full, 1);
    }
    __syncthreads();
    for (int round = 0; round < rounds; ++round) {
        const std::uint32_t parity = round % 2;
        if (thread < writers) {
            ptx::mbarrier_wait(free, parity ^ 1);  // the phase before the first is over
            room[thread] = 1000 * round + thread;
            ptx::mbarrier_arrive(full);
        } else {
            ptx::mbarrier_wait(full, parity);
            const int lane = thread - writers;
            int sum = 0;
            for (int i = lane; i < writers; i += 32) sum += room[i];
            ptx::mbarrier_arrive(free);
            sums[round * 32 + lane] = sum;
        }
    }
}

TEST_CASE("a barrier in shared memory: phase by phase, those who read wait for those who write, and the other way round") {
    device_array<int> sums(rounds * 32), answers(2);
    const own_stream stream;
    phases<<<1, writers + 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(sums.data(), answers.data());
    longspan::cuda::check_launch("test");
    const std::vector<int> got = sums.get();
    for (int round = 0; round < rounds; ++round)
        for (int lane = 0; lane < 32; ++lane) {
            CHECK(got[static_cast<std::size_t>(round * 32 + lane)] == 4 * (1000 * round + lane) + (32 + 64 + 96));
        }
    CHECK(answers.get() == std::vector<int>{0, 1});
}

}  // namespace cuda_test
