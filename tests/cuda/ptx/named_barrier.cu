// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/named_barrier.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static constexpr int pairs = 4, most_rounds = 40;

/// Warp 2p writes a line, says so and goes on to its own arithmetic; warp 2p + 1 waits for the line, copies it, and says that it is
/// free. Each pair has two barriers, and as many rounds as it likes.
static __global__ void hand_over(int* to) {
    __shared__ volatile int line[pairs * 32];
    const int pair = static_cast<int>(threadIdx.x) / 64, lane = static_cast<int>(threadIdx.x) % 32;
    const bool writes = threadIdx.x % 64 < 32;
    const int written = 1 + 2 * pair, read = written + 1, rounds = 10 * (pair + 1);
    for (int round = 0; round < rounds; ++round) {
        if (writes) {
            if (round > 0) ptx::barrier_wait(read, 64);
            line[pair * 32 + lane] = 1000 * round + 32 * pair + lane;
            ptx::barrier_arrive(written, 64);
        } else {
            ptx::barrier_wait(written, 64);
            to[(pair * most_rounds + round) * 32 + lane] = line[pair * 32 + (lane + 1) % 32];
            if (round + 1 < rounds) ptx::barrier_arrive(read, 64);
        }
    }
}

TEST_CASE("one warp waits for what another wrote, which does not wait for it") {
    device_array<int> to(pairs * most_rounds * 32);
    const own_stream stream;
    hand_over<<<1, 64 * pairs, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(to.data());
    longspan::cuda::check_launch("test");
    const std::vector<int> got = to.get();
    for (int pair = 0; pair < pairs; ++pair)
        for (int round = 0; round < most_rounds; ++round)
            for (int lane = 0; lane < 32; ++lane) {
                const int expected = round < 10 * (pair + 1) ? 1000 * round + 32 * pair + (lane + 1) % 32 : -1;  // -1: never written
                CHECK(got[static_cast<std::size_t>((pair * most_rounds + round) * 32 + lane)] == expected);
            }
}

}  // namespace cuda_test
