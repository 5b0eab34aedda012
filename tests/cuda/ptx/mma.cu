// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/mma.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;
using longspan::bf16;
using longspan::fp16;

/// c[16, 8] = 0.5 + a[16, depth]·b[depth, 8], fragments gathered element by element as the header says.
template <class T>
__global__ void multiply(const T* a, const T* b, float* c) {
    const int lane = static_cast<int>(threadIdx.x), g = lane / 4, t = lane % 4;
    constexpr int depth = sizeof(T) == 2 ? 16 : 8;
    std::uint32_t left[4], right[2];
    float sum[4] = {0.5f, 0.5f, 0.5f, 0.5f};
    if constexpr (sizeof(T) == 2) {
        const auto pair = [](T low, T high) { return static_cast<std::uint32_t>(low.bits) | static_cast<std::uint32_t>(high.bits) << 16; };
        for (int i = 0; i < 4; ++i) {
            const T* const at = a + (g + i % 2 * 8) * depth + 2 * t + i / 2 * 8;
            left[i] = pair(at[0], at[1]);
        }
        for (int i = 0; i < 2; ++i) right[i] = pair(b[(2 * t + 8 * i) * 8 + g], b[(2 * t + 8 * i + 1) * 8 + g]);
        if constexpr (std::is_same_v<T, bf16>) ptx::mma_bf16(sum, left, right);
        else ptx::mma_fp16(sum, left, right);
    } else {
        for (int i = 0; i < 4; ++i) left[i] = __float_as_uint(a[(g + i % 2 * 8) * depth + t + i / 2 * 4]);
        for (int i = 0; i < 2; ++i) right[i] = __float_as_uint(b[(t + 4 * i) * 8 + g]);
        ptx::mma_tf32(sum, left, right);
    }
    for (int i = 0; i < 4; ++i) c[(g + i / 2 * 8) * 8 + 2 * t + i % 2] = sum[i];
}

template <class T>
void check_multiply() {
    constexpr std::size_t depth = sizeof(T) == 2 ? 16 : 8;
    std::vector<T> a = random_values<T>(16 * depth, 1), b = random_values<T>(depth * 8, 2);
    if constexpr (sizeof(T) == 4) {
        for (auto* all : {&a, &b})
            for (float& x : *all) x = longspan::tf32_format::round(x);
    }
    const device_array<T> a_there(a), b_there(b);
    device_array<float> c(128);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    multiply<T><<<1, 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(a_there.data(), b_there.data(), c.data());
    longspan::cuda::check_launch("test");
    std::vector<double> exact(128, 0.5);
    const std::vector<double> left = doubles(a), right = doubles(b);
    for (std::size_t i = 0; i < 16; ++i)
        for (std::size_t j = 0; j < 8; ++j)
            for (std::size_t k = 0; k < depth; ++k) exact[i * 8 + j] += left[i * depth + k] * right[k * 8 + j];
    CHECK(relative_error(doubles(c.get()), exact) < 5e-7);
}

TEST_CASE("a warp's product: bf16, fp16, tf32") {
    check_multiply<bf16>();
    check_multiply<fp16>();
    check_multiply<float>();
}

}  // namespace cuda_test
