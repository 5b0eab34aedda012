// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <numeric>

#include <longspan/cuda/ptx/cp_async.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static __global__ void copy_words(const std::uint32_t* from, std::uint32_t* to) {
    __shared__ alignas(16) std::uint32_t room[6 * 32];
    const std::uint32_t at = ptx::shared_address(room) + threadIdx.x * 24;
    const int lane = static_cast<int>(threadIdx.x);
    if (lane % 2 == 0) {  // 48 bytes for two lanes: 16 + 8, then 8 + 16, each at its alignment
        ptx::copy_16(at, from + lane * 6, lane % 4 == 0);
        ptx::copy_8(at + 16, from + lane * 6 + 4, true);
    } else {
        ptx::copy_8(at, from + lane * 6, lane % 4 == 1);
        if (lane % 8 == 7) {
            for (int i = 0; i < 4; ++i) ptx::copy_4(at + 8 + 4 * i, from + lane * 6 + 2 + i);
        } else {
            ptx::copy_16(at + 8, from + lane * 6 + 2, true);
        }
    }
    ptx::commit_copies();
    ptx::wait_copies<0>();
    __syncthreads();
    for (int i = lane; i < 192; i += 32) to[i] = room[i];
}

TEST_CASE("copies to shared memory, and zeros in their place") {
    std::vector<std::uint32_t> values(192);
    std::iota(values.begin(), values.end(), 1u);
    const device_array<std::uint32_t> from(values);
    device_array<std::uint32_t> to(192);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    copy_words<<<1, 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(from.data(), to.data());
    longspan::cuda::check_launch("test");
    const std::vector<std::uint32_t> got = to.get();
    for (int i = 0; i < 192; ++i) {
        const int lane = i / 6, word = i % 6;
        const bool dropped = (lane % 4 == 2 && word < 4) || (lane % 4 == 3 && word < 2);
        CHECK(got[static_cast<std::size_t>(i)] == (dropped ? 0u : values[static_cast<std::size_t>(i)]));
    }
}

}  // namespace cuda_test
