// SPDX-License-Identifier: Apache-2.0
#include "support.cuh"

#include <limits>

#include <longspan/cuda/packet.cuh>

namespace cuda_test {

namespace cuda = longspan::cuda;
using longspan::bf16;
using longspan::fp16;

static_assert(cuda::packet_elements<float, 64> == 4 && cuda::packet_elements<bf16, 64> == 8 && cuda::packet_elements<double, 64> == 2);
static_assert(cuda::packet_elements<bf16, 36> == 4 && cuda::packet_elements<bf16, 38> == 2 && cuda::packet_elements<fp16, 37> == 1);
static_assert(cuda::common_packet<64, bf16, float> == 4 && cuda::common_packet<64, const bf16, fp16> == 8 && cuda::common_packet<6, bf16, float> == 2);
static_assert(cuda::packet_alignment<bf16, 8> == 16 && cuda::packet_alignment<bf16, 2> == 4 && cuda::packet_alignment<double, 4> == 16);
static_assert(sizeof(cuda::packet<bf16, 8>) == 16 && alignof(cuda::packet<bf16, 8>) == 16 && alignof(cuda::packet<bf16, 2>) == 4);
static_assert(alignof(cuda::packet<float, 8>) == 16, "two accesses");

template <class T>
__global__ void convert(const T* stored, float* wide, const float* values, T* rounded, int count) {
    const int i = static_cast<int>(blockIdx.x * blockDim.x + threadIdx.x);
    if (i < count) wide[i] = cuda::widen(stored[i]), rounded[i] = cuda::narrow<T>(values[i]);
}

/// Every pattern of 16 bits, and a float between each two neighbours or on the middle.
template <class T>
void check_conversions() {
    constexpr std::size_t count = 65536;
    std::vector<T> stored(count);
    std::vector<float> values = random_values<float>(count, 3, 100.0);
    for (std::size_t i = 0; i < count; ++i) stored[i] = T::from_bits(static_cast<std::uint16_t>(i));
    for (std::size_t i = 0; i + 1 < count; i += 2) {  // half way from a value to the next: a tie
        const float low = longspan::to_compute(stored[i]), high = longspan::to_compute(stored[i + 1]);
        if (std::isfinite(low) && std::isfinite(high)) values[i] = low + (high - low) / 2;
    }
    const float infinity = std::numeric_limits<float>::infinity();
    values[1] = infinity, values[3] = -infinity, values[5] = 65520.0f, values[7] = 65519.0f, values[9] = 3.4e38f;
    const device_array<T> from(stored);
    const device_array<float> there(values);
    device_array<float> wide(count);
    device_array<T> rounded(count);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    convert<<<256, 256, 0, static_cast<cuda::stream_ref>(stream)>>>(from.data(), wide.data(), there.data(), rounded.data(), static_cast<int>(count));
    cuda::check_launch("test");
    const std::vector<float> widened = wide.get();
    const std::vector<T> narrowed = rounded.get();
    std::size_t wrong_wide = 0, wrong_narrow = 0;
    for (std::size_t i = 0; i < count; ++i) {
        const float expected = longspan::to_compute(stored[i]);
        wrong_wide += std::isnan(expected) ? !std::isnan(widened[i]) : std::memcmp(&widened[i], &expected, 4) != 0;
        wrong_narrow += narrowed[i].bits != longspan::from_compute<T>(values[i]).bits;
    }
    CHECK(wrong_wide == 0);
    CHECK(wrong_narrow == 0);
}

TEST_CASE("packets: what is stored in two bytes as a float and back, the host's bits") {
    check_conversions<bf16>();
    check_conversions<fp16>();
}

/// Reads N values at a time, and writes them doubled.
template <int N, class From, class To>
__global__ void twice(const From* from, To* to, int packets) {
    const int i = static_cast<int>(threadIdx.x);
    if (i >= packets) return;
    float values[N];
    cuda::read<N>(from + N * i, values);
    for (float& x : values) x *= 2;
    cuda::write<N>(to + N * i, values);
}

template <int N, class From, class To>
void check_packets() {
    CAPTURE(N);
    constexpr std::size_t packets = 61;
    const std::vector<From> values = random_values<From>(packets * N, 9);
    const device_array<From> from(values);
    device_array<To> to(packets * N);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    twice<N><<<1, 64, 0, static_cast<cuda::stream_ref>(stream)>>>(from.data(), to.data(), static_cast<int>(packets));
    cuda::check_launch("test");
    const std::vector<To> got = to.get();
    std::vector<To> expected(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) expected[i] = longspan::from_compute<To>(2 * static_cast<float>(longspan::to_compute(values[i])));
    CHECK(same_bits(got, expected));
}

TEST_CASE("packets: values move side by side, each rounded once") {
    check_packets<8, bf16, bf16>();
    check_packets<8, bf16, float>();  // two accesses
    check_packets<4, float, fp16>();
    check_packets<2, fp16, bf16>();
    check_packets<1, bf16, fp16>();
    check_packets<1, float, float>();
}

}  // namespace cuda_test
