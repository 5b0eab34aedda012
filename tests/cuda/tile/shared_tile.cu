// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/shared.cuh>
#include <longspan/cuda/tile/shared_tile.cuh>

namespace cuda_test {

namespace tile = longspan::cuda::tile;
using longspan::bf16;

static_assert(tile::shared_tile<bf16, 64, 128>::pitch == 272 && tile::shared_tile<bf16, 64, 64>::pitch == 144);
static_assert(tile::shared_tile<float, 64, 80>::pitch % 32 == 16, "an odd number of 16-byte units");

/// A tile of Rows x Width from `live` rows of Columns elements, word by word.
template <class T, int Rows, int Width, int Columns, int Threads>
__global__ void copy(const T* from, index stride, int live, std::uint32_t* to) {
    extern __shared__ __align__(16) unsigned char room[];
    const tile::shared_tile<T, Rows, Width> here{longspan::cuda::ptx::shared_address(room)};
    for (int i = static_cast<int>(threadIdx.x); i < here.size; i += Threads) room[i] = 0xEE;
    __syncthreads();
    tile::copy_rows<Threads, Columns>(here, from, stride, live);
    longspan::cuda::ptx::commit_copies();
    longspan::cuda::ptx::wait_copies<0>();
    __syncthreads();
    constexpr int words = Width * int{sizeof(T)} / 4;
    for (int i = static_cast<int>(threadIdx.x); i < Rows * words; i += Threads) {
        to[i] = __float_as_uint(longspan::cuda::ptx::load_float(here.from(i / words).at(0, i % words * 4 / int{sizeof(T)})));
    }
}

template <class T, int Rows, int Width, int Columns, int Threads>
void check_copy(int live) {
    constexpr index stride = Columns + 16 / index{sizeof(T)};
    const std::vector<T> values = random_values<T>(static_cast<std::size_t>(Rows * stride), 3);
    const device_array<T> there(values);
    device_array<std::uint32_t> to(Rows * Width * sizeof(T) / 4);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    constexpr int size = tile::shared_tile<T, Rows, Width>::size;
    copy<T, Rows, Width, Columns, Threads><<<1, Threads, size, static_cast<longspan::cuda::stream_ref>(stream)>>>(there.data(), stride, live, to.data());
    longspan::cuda::check_launch("test");
    const std::vector<std::uint32_t> words = to.get();
    std::vector<T> got(Rows * Width);
    std::memcpy(got.data(), words.data(), got.size() * sizeof(T));
    for (int r = 0; r < Rows; ++r)
        for (int c = 0; c < Width; ++c) {
            const T expected = r < live && c < Columns ? values[static_cast<std::size_t>(r * stride + c)] : T{};
            CHECK(std::memcmp(&got[static_cast<std::size_t>(r * Width + c)], &expected, sizeof(T)) == 0);
        }
}

TEST_CASE("rows arrive in a tile, and zeros where there are none") {
    check_copy<bf16, 64, 128, 128, 128>(64);
    check_copy<bf16, 64, 64, 64, 128>(1);
    check_copy<bf16, 64, 96, 80, 128>(33);
    check_copy<float, 32, 48, 40, 256>(31);
    check_copy<float, 32, 64, 64, 256>(0);
}

}  // namespace cuda_test
