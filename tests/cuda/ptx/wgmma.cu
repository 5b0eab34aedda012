// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/hopper/detail/swizzled_tile.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/mbarrier.cuh>
#include <longspan/cuda/ptx/wgmma.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;
using longspan::bf16;
using longspan::fp16;
using longspan::cuda::hopper::detail::swizzled_tile;

static constexpr int depth = 64;

/// Where the left operand of a product comes from.
enum class left { rows, columns, registers };

/// d[64, N] = a·b and then once more onto itself in e. a: [64, depth], or [depth, 64] if it is given by columns; b: [N, depth], or
/// [depth, N] if Columns. d begins as NaN: a product that does not add must not read it.
template <class F, int N, left Left, bool Columns>
__global__ void __launch_bounds__(128) multiply_tiles(const F* a, const F* b, float* d, float* e) {
    using tile_a = swizzled_tile<64, depth>;  // square
    using tile_b = swizzled_tile<Columns ? depth : N, Columns ? static_cast<int>(longspan::round_up(N, 64)) : depth>;
    __shared__ alignas(1024) unsigned char room[tile_a::size + tile_b::size];
    const tile_a at_a{ptx::shared_address(room)};
    const tile_b at_b{ptx::shared_address(room) + tile_a::size};
    const int thread = static_cast<int>(threadIdx.x);
    const auto put = [](unsigned char* to, auto shape, const F* from, int columns, int count) {
        for (int i = static_cast<int>(threadIdx.x); i < count; i += 128) {
            *reinterpret_cast<F*>(to + decltype(shape)::offset(i / columns, i % columns)) = from[i];
        }
    };
    put(room, at_a, a, depth, 64 * depth);
    put(room + tile_a::size, at_b, b, Columns ? N : depth, N * depth);
    ptx::fence_async_proxy();
    __syncthreads();
    float sums[N / 2];
    for (float& x : sums) x = __int_as_float(-1);
    const int row = thread / 32 * 16 + thread % 32 / 4, pair = thread % 4 * 2;
    std::uint32_t fragments[depth / 16][4];
    for (int k = 0; k < depth / 16; ++k)
        for (int i = 0; i < 4; ++i) {
            const F* const at = a + (row + i % 2 * 8) * depth + 16 * k + pair + i / 2 * 8;
            fragments[k][i] = static_cast<std::uint32_t>(at[0].bits) | static_cast<std::uint32_t>(at[1].bits) << 16;
        }
    const auto product = [&](int add) {
        ptx::pin(sums);
        for (int k = 0; k < depth / 16; ++k) ptx::pin(fragments[k]);
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < depth; k += 16) {
            const std::uint64_t right = Columns ? at_b.columns_from() + tile_b::along_rows(k) : at_b.rows_from() + tile_b::along_columns(k);
            if constexpr (Left == left::registers) ptx::multiply<F, Columns>(sums, fragments[k / 16], right, add || k > 0);
            else if constexpr (Left == left::rows) ptx::multiply<F, 0, Columns>(sums, at_a.rows_from() + tile_a::along_columns(k), right, add || k > 0);
            else ptx::multiply<F, 1, Columns>(sums, at_a.columns_from() + tile_a::along_rows(k), right, add || k > 0);
        }
        ptx::commit_products();
        ptx::wait_products<0>();
        ptx::pin(sums);
    };
    const auto write = [&](float* to) {
#pragma unroll
        for (int i = 0; i < N / 2; ++i) to[(row + i / 2 % 2 * 8) * N + i / 4 * 8 + pair + i % 2] = sums[i];
    };
    product(0);
    write(d);
    product(1);
    write(e);
}

template <class F, int N, left Left, bool Columns>
void check_product() {
    CAPTURE(N);
    const std::vector<F> a = random_values<F>(64 * depth, 1), b = random_values<F>(N * depth, 2);
    const device_array<F> a_there(a), b_there(b);
    device_array<float> d(64 * N), e(64 * N);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    multiply_tiles<F, N, Left, Columns><<<1, 128, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(a_there.data(), b_there.data(), d.data(), e.data());
    longspan::cuda::check_launch("test");
    const std::vector<double> x = doubles(a), y = doubles(b);
    std::vector<double> exact(64 * N), twice(64 * N);
    for (std::size_t i = 0; i < 64; ++i)
        for (std::size_t j = 0; j < N; ++j) {
            for (std::size_t k = 0; k < depth; ++k) exact[i * N + j] += x[Left == left::columns ? k * 64 + i : i * depth + k] * y[Columns ? k * N + j : j * depth + k];
            twice[i * N + j] = 2 * exact[i * N + j];
        }
    CHECK(relative_error(doubles(d.get()), exact) < 2e-6);
    CHECK(relative_error(doubles(e.get()), twice) < 2e-6);
}

TEST_CASE("a warpgroup's product, operands lying every way") {
    check_product<bf16, 64, left::rows, false>();
    check_product<bf16, 64, left::rows, true>();
    check_product<bf16, 128, left::columns, false>();
    check_product<bf16, 64, left::columns, true>();
    check_product<bf16, 64, left::registers, false>();
    check_product<bf16, 128, left::registers, true>();
    check_product<fp16, 64, left::rows, true>();
    check_product<fp16, 64, left::registers, false>();
}
TEST_CASE("a warpgroup's product of every width") {
    check_product<bf16, 32, left::rows, false>();
    check_product<fp16, 80, left::rows, false>();
    check_product<bf16, 80, left::registers, false>();
    check_product<bf16, 96, left::rows, false>();
    check_product<fp16, 128, left::rows, false>();
    check_product<bf16, 192, left::rows, true>();
    check_product<fp16, 192, left::registers, false>();
    check_product<bf16, 256, left::rows, true>();
    check_product<bf16, 256, left::registers, false>();
}

}  // namespace cuda_test
