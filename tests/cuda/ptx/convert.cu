// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <bit>

#include <longspan/cuda/ptx/convert.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static __global__ void convert(const float* x, std::uint32_t* bf16s, std::uint32_t* fp16s, float* tf32s, float* raised, std::uint32_t* signs, int pairs) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i >= pairs) return;
    bf16s[i] = ptx::pack_bf16(x[2 * i], x[2 * i + 1]);
    fp16s[i] = ptx::pack_fp16(x[2 * i], x[2 * i + 1]);
    tf32s[i] = __uint_as_float(ptx::round_tf32(x[2 * i]));
    raised[i] = ptx::exp2_fast(x[2 * i]);
    signs[i] = ptx::halves_by_sign(__float_as_uint(x[2 * i]));
}

TEST_CASE("conversions round as the host's do; powers of two are within 2 units") {
    constexpr std::size_t pairs = 5000;
    std::vector<float> x = random_values<float>(2 * pairs, 1, 8.0);
    const float infinity = std::numeric_limits<float>::infinity();
    const std::vector<float> special{0.0f, -0.0f, infinity, -infinity, 1.00390625f, 1.01171875f, 65519.0f, 65520.0f, 3e-8f, 6e-5f, 1e30f, -1e-40f};
    std::copy(special.begin(), special.end(), x.begin());
    const device_array<float> there(x);
    device_array<std::uint32_t> bf16s(pairs), fp16s(pairs), signs(pairs);
    device_array<float> tf32s(pairs), raised(pairs);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    convert<<<40, 128, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(there.data(), bf16s.data(), fp16s.data(), tf32s.data(), raised.data(), signs.data(), int{pairs});
    longspan::cuda::check_launch("test");
    const auto b = bf16s.get(), f = fp16s.get(), s = signs.get();
    const auto t = tf32s.get(), r = raised.get();
    for (std::size_t i = 0; i < pairs; ++i) {
        CHECK(b[i] == (longspan::bf16(x[2 * i]).bits | static_cast<std::uint32_t>(longspan::bf16(x[2 * i + 1]).bits) << 16));
        CHECK(f[i] == (longspan::fp16(x[2 * i]).bits | static_cast<std::uint32_t>(longspan::fp16(x[2 * i + 1]).bits) << 16));
        const float rounded = longspan::tf32_format::round(x[2 * i]);
        CHECK((t[i] == rounded || std::abs(t[i] - x[2 * i]) == std::abs(rounded - x[2 * i])));  // ties go away from 0 here
        const auto bits = std::bit_cast<std::uint32_t>(x[2 * i]);
        CHECK(s[i] == ((bits & 0x80u ? 0xFFFFu : 0u) | (bits & 0x8000u ? 0xFFFF0000u : 0u)));
        const double power = std::exp2(static_cast<double>(x[2 * i]));
        CHECK((std::abs(r[i] - power) <= 3e-7 * power || power < 0x1p-125 || std::isinf(r[i])));
    }
}

}  // namespace cuda_test
