// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/ldmatrix.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static __global__ void load_both(std::uint32_t* to) {
    __shared__ alignas(16) std::uint16_t room[32 * 8];  // element (matrix, row, column) holds 64·matrix + 8·row + column
    const int lane = static_cast<int>(threadIdx.x);
    for (int i = lane; i < 256; i += 32) room[i] = static_cast<std::uint16_t>(i);
    __syncthreads();
    std::uint32_t plain[4], transposed[4];
    ptx::load_matrices(plain, ptx::shared_address(room + lane * 8));
    ptx::load_matrices_transposed(transposed, ptx::shared_address(room + lane * 8));
    for (int i = 0; i < 4; ++i) to[lane * 8 + i] = plain[i], to[lane * 8 + 4 + i] = transposed[i];
}

TEST_CASE("four matrices at once, as they stand and transposed") {
    device_array<std::uint32_t> to(256);
    const own_stream stream;
    load_both<<<1, 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(to.data());
    longspan::cuda::check_launch("test");
    const std::vector<std::uint32_t> got = to.get();
    for (std::uint32_t lane = 0; lane < 32; ++lane) {
        const std::uint32_t g = lane / 4, t = lane % 4;
        for (std::uint32_t m = 0; m < 4; ++m) {
            const std::uint32_t plain = 64 * m + 8 * g + 2 * t, turned = 64 * m + 8 * (2 * t) + g;
            CHECK(got[lane * 8 + m] == (plain | (plain + 1) << 16));
            CHECK(got[lane * 8 + 4 + m] == (turned | (turned + 8) << 16));
        }
    }
}

}  // namespace cuda_test
