// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/ldmatrix.cuh>
#include <longspan/cuda/ptx/stmatrix.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

/// Fragments of four matrices stored plainly and transposed, then the whole room, then what ldmatrix makes of it.
static __global__ void store_both(std::uint16_t* plain, std::uint16_t* transposed, std::uint32_t* again) {
    __shared__ alignas(16) std::uint16_t rooms[2][4 * 64];
    const std::uint32_t lane = threadIdx.x, g = lane / 4, t = lane % 4;
    std::uint32_t word[4];  // element (matrix, row, column) is 64·matrix + 8·row + column + 1
    for (std::uint32_t m = 0; m < 4; ++m) {
        const std::uint32_t first = 64 * m + 8 * g + 2 * t + 1;
        word[m] = first | (first + 1) << 16;
    }
    ptx::store_matrices(ptx::shared_address(rooms[0] + lane * 8), word[0], word[1], word[2], word[3]);
    ptx::store_matrices_transposed(ptx::shared_address(rooms[1] + lane * 8), word[0], word[1], word[2], word[3]);
    __syncwarp();
    for (int i = static_cast<int>(lane); i < 256; i += 32) plain[i] = rooms[0][i], transposed[i] = rooms[1][i];
    std::uint32_t back[2][4];
    ptx::load_matrices(back[0], ptx::shared_address(rooms[0] + lane * 8));
    ptx::load_matrices_transposed(back[1], ptx::shared_address(rooms[1] + lane * 8));
    for (int i = 0; i < 4; ++i) again[lane * 8 + i] = back[0][i] ^ word[i], again[lane * 8 + 4 + i] = back[1][i] ^ word[i];
}

TEST_CASE("four matrices are stored at once, as they stand and transposed; ldmatrix takes them back") {
    device_array<std::uint16_t> plain(256), transposed(256);
    device_array<std::uint32_t> again(256);
    const own_stream stream;
    store_both<<<1, 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(plain.data(), transposed.data(), again.data());
    longspan::cuda::check_launch("test");
    const std::vector<std::uint16_t> a = plain.get(), b = transposed.get();
    for (std::size_t m = 0; m < 4; ++m)
        for (std::size_t row = 0; row < 8; ++row)
            for (std::size_t column = 0; column < 8; ++column) {
                const std::size_t expected = 64 * m + 8 * row + column + 1;
                CHECK(a[64 * m + 8 * row + column] == expected);
                CHECK(b[64 * m + 8 * column + row] == expected);
            }
    for (const std::uint32_t difference : again.get()) CHECK(difference == 0);
}

}  // namespace cuda_test
