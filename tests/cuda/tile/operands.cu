// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/tile/operands.cuh>

namespace cuda_test {

namespace tile = longspan::cuda::tile;
using longspan::bf16;
using longspan::fp16;
using longspan::tf32_format;

constexpr int depth_here = 32;

/// c[16, 16] = a·b and then d[16, 16] = c·e, with every way of loading an operand: a stands as [16, depth] or transposed, b as
/// [16, depth] or transposed, e as [16, 16] rows of its depth.
template <class F, bool Transposed, class T>
__global__ void two_products(const T* a, const T* b, const T* e, float* c, float* d) {
    using ops = tile::operands<F>;
    using tall = tile::shared_tile<T, Transposed ? depth_here : 16, Transposed ? 16 : depth_here>;
    using square = tile::shared_tile<T, 16, 16>;
    __shared__ alignas(16) unsigned char room[2 * tall::size + square::size];
    const tall at_a{longspan::cuda::ptx::shared_address(room)}, at_b{at_a.base + tall::size};
    const square at_e{at_b.base + tall::size};
    tile::copy_rows<32, tall::width>(at_a, a, tall::width, tall::rows);
    tile::copy_rows<32, tall::width>(at_b, b, tall::width, tall::rows);
    tile::copy_rows<32, 16>(at_e, e, 16, 16);
    longspan::cuda::ptx::commit_copies();
    longspan::cuda::ptx::wait_copies<0>();
    __syncthreads();
    float first[2][4] = {}, second[2][4] = {};
    for (int k = 0; k < depth_here; k += ops::depth) {
        typename ops::left left;
        typename ops::right right;
        if constexpr (Transposed) {
            left = ops::load_left_transposed(ops::left_transposed_view(at_a, tile::lane_id()), k, 0);
            right = ops::load_right_transposed(ops::right_transposed_view(at_b, tile::lane_id()), k, 0);
        } else {
            left = ops::load_left(ops::left_view(at_a, tile::lane_id()), 0, k);
            right = ops::load_right(ops::right_view(at_b, tile::lane_id()), 0, k);
        }
        for (int n = 0; n < 2; ++n) ops::multiply(first[n], left, right, n);
    }
    for (int k = 0; k < 16; k += ops::depth) {
        const typename ops::right right = ops::load_right_transposed(ops::right_transposed_view(at_e, tile::lane_id()), k, 0);
        const typename ops::left left = ops::from_sums(first, k / ops::depth);
        for (int n = 0; n < 2; ++n) ops::multiply(second[n], left, right, n);
    }
    const int g = tile::lane_id() / 4, t = tile::lane_id() % 4;
    for (int i = 0; i < 8; ++i) {
        const int at = (g + i % 4 / 2 * 8) * 16 + i / 4 * 8 + 2 * t + i % 2;
        c[at] = first[i / 4][i % 4], d[at] = second[i / 4][i % 4];
    }
}

template <class F, bool Transposed, class T>
void check_products(double of_first, double of_second) {
    const std::vector<T> a = random_values<T>(16 * depth_here, 1), b = random_values<T>(16 * depth_here, 2), e = random_values<T>(256, 3);
    const device_array<T> a_there(a), b_there(b), e_there(e);
    device_array<float> c(256), d(256);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    two_products<F, Transposed><<<1, 32, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(a_there.data(), b_there.data(), e_there.data(), c.data(), d.data());
    longspan::cuda::check_launch("test");
    const std::vector<double> x = doubles(a), y = doubles(b), z = doubles(e);
    std::vector<double> first(256), second(256);
    const auto of = [](const std::vector<double>& all, std::size_t row, std::size_t k) { return all[Transposed ? k * 16 + row : row * depth_here + k]; };
    for (std::size_t i = 0; i < 16; ++i)
        for (std::size_t j = 0; j < 16; ++j)
            for (std::size_t k = 0; k < depth_here; ++k) first[i * 16 + j] += of(x, i, k) * of(y, j, k);
    for (std::size_t i = 0; i < 16; ++i)
        for (std::size_t j = 0; j < 16; ++j)
            for (std::size_t k = 0; k < 16; ++k) second[i * 16 + j] += first[i * 16 + k] * z[k * 16 + j];
    CHECK(relative_error(doubles(c.get()), first) < of_first);
    CHECK(relative_error(doubles(d.get()), second) < of_second);
}

TEST_CASE("operands of tensor cores, loaded every way") {
    check_products<bf16, false, bf16>(5e-7, 3e-3);
    check_products<bf16, true, bf16>(5e-7, 3e-3);
    check_products<fp16, false, fp16>(5e-7, 4e-4);
    check_products<fp16, true, fp16>(5e-7, 4e-4);
    check_products<tf32_format, false, float>(5e-4, 7e-4);
    check_products<tf32_format, true, float>(5e-4, 7e-4);
    check_products<float, false, float>(3e-7, 4e-7);
    check_products<float, true, float>(3e-7, 4e-7);
}

}  // namespace cuda_test
