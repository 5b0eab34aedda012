// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/shared.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

/// 64 floats go into shared memory in one width and come back in another; `out` gets 4 x 64 of them.
static __global__ void widths(const float* x, float* out, std::uint32_t* bytes) {
    __shared__ alignas(16) float room[3][64];
    const int i = static_cast<int>(threadIdx.x);  // 16 threads, 4 floats each
    const std::uint32_t at = ptx::shared_address(&room[0][4 * i]), second = ptx::shared_address(&room[1][4 * i]), third = ptx::shared_address(&room[2][4 * i]);
    ptx::store(at, make_float4(x[4 * i], x[4 * i + 1], x[4 * i + 2], x[4 * i + 3]));
    ptx::store(second, make_float2(x[4 * i], x[4 * i + 1]));
    ptx::store(second + 8, i % 2 == 0 ? make_uint2(__float_as_uint(x[4 * i + 2]), __float_as_uint(x[4 * i + 3])) : make_uint2(0, 0));
    if (i % 2 == 1) {
        ptx::store(second + 8, __float_as_uint(x[4 * i + 2]));
        ptx::store(second + 12, __float_as_uint(x[4 * i + 3]));
    }
    ptx::store(third, make_uint4(__float_as_uint(x[4 * i]), __float_as_uint(x[4 * i + 1]), __float_as_uint(x[4 * i + 2]), __float_as_uint(x[4 * i + 3])));
    __syncthreads();
    const float4 four = ptx::load_four_floats(second);
    const float2 low = ptx::load_two_floats(third), high = ptx::load_two_floats(third + 8);
    const uint4 words = ptx::load_words(at);
    const float of_four[4] = {four.x, four.y, four.z, four.w}, of_two[4] = {low.x, low.y, high.x, high.y};
    const std::uint32_t of_words[4] = {words.x, words.y, words.z, words.w};
    for (int k = 0; k < 4; ++k) {
        out[4 * i + k] = of_four[k];
        out[64 + 4 * i + k] = of_two[k];
        out[128 + 4 * i + k] = __uint_as_float(of_words[k]);
        out[192 + 4 * i + k] = ptx::load_float(second + 4 * k);
        std::uint32_t word = 0;
        for (int b = 0; b < 4; ++b) word |= ptx::load_byte(at + 4 * k + b) << (8 * b);
        bytes[4 * i + k] = word == ptx::load_word(third + 4 * k) ? word : 0u;
    }
}

TEST_CASE("shared memory by its address: what goes in by one width comes out by another") {
    const std::vector<float> x = random_values<float>(64, 1);
    const device_array<float> there(x);
    device_array<float> out(256);
    device_array<std::uint32_t> bytes(64);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    widths<<<1, 16, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(there.data(), out.data(), bytes.data());
    longspan::cuda::check_launch("test");
    const std::vector<float> got = out.get();
    const std::vector<std::uint32_t> words = bytes.get();
    for (std::size_t i = 0; i < 256; ++i) CHECK(got[i] == x[i % 64]);
    for (std::size_t i = 0; i < 64; ++i) {
        float value = 0;
        std::memcpy(&value, &words[i], 4);
        CHECK(value == x[i]);
    }
}

}  // namespace cuda_test
