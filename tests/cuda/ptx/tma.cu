// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/hopper/detail/swizzled_tile.cuh>
#include <longspan/cuda/hopper/detail/tensor_map.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/mbarrier.cuh>
#include <longspan/cuda/ptx/tma.cuh>

namespace cuda_test {

namespace hopper = longspan::cuda::hopper::detail;
namespace ptx = longspan::cuda::ptx;
using longspan::bf16;

static constexpr int box_rows = 24, box_columns = 128;
using tile = hopper::swizzled_tile<box_rows, box_columns>;

/// The box of the matrix from `row` on, of rows Step apart, element by element as it stands in shared memory.
template <int Step>
static __global__ void take_box(const __grid_constant__ hopper::row_maps<Step> maps, int row, std::uint16_t* to) {
    __shared__ alignas(1024) unsigned char room[tile::size];
    __shared__ alignas(8) std::uint64_t barrier;
    const std::uint32_t here = ptx::shared_address(room), arrived = ptx::shared_address(&barrier);
    for (int i = static_cast<int>(threadIdx.x); i < tile::size; i += 128) room[i] = 0xEE;
    ptx::fence_async_proxy();
    if (threadIdx.x == 0) {
        maps.prefetch();
        ptx::mbarrier_init(arrived, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(arrived, tile::size);
        maps.copy(here, row, 0, arrived);
    }
    ptx::mbarrier_wait(arrived, 0);
    for (int i = static_cast<int>(threadIdx.x); i < box_rows * box_columns; i += 128) {
        to[i] = *reinterpret_cast<const std::uint16_t*>(room + tile::offset(i / box_columns, i % box_columns));
    }
}

template <int Step>
static void check_boxes(index rows, const std::vector<int>& begins) {
    CAPTURE(Step);
    CAPTURE(rows);
    constexpr index stride = 168;
    const std::vector<bf16> values = random_values<bf16>(static_cast<std::size_t>(rows * stride), 5);
    const device_array<bf16> from(values);
    const own_stream stream;
    const auto maps = hopper::make_row_maps<Step>("test", from.constants(rows, box_columns, stride), box_rows, box_columns);
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    for (const int row : begins) {
        CAPTURE(row);
        device_array<std::uint16_t> to(box_rows * box_columns);
        take_box<Step><<<1, 128, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(maps, row, to.data());
        longspan::cuda::check_launch("test");
        const std::vector<std::uint16_t> got = to.get();
        std::size_t wrong = 0;
        for (index r = 0; r < box_rows; ++r)
            for (index c = 0; c < box_columns; ++c) {
                const index at = row + Step * r;
                const bool inside = at >= 0 && at < rows;
                const std::uint16_t expected = inside ? values[static_cast<std::size_t>(at * stride + c)].bits : std::uint16_t{0};
                wrong += got[static_cast<std::size_t>(r * box_columns + c)] != expected;
            }
        CHECK(wrong == 0);
    }
}

TEST_CASE("the copy engine brings a box of a strided matrix, and zeros for the rows that it does not have") {
    check_boxes<1>(37, {0, 5, 13, 20, 36, 37, -3});
}

// Behind the last row lie other bytes than 0: they would be seen if they were read.
TEST_CASE("the copy engine brings rows that lie apart, and nothing behind the last row") {
    for (const index rows : {1, 2, 3, 36, 37, 38, 100}) {
        std::vector<int> begins;
        for (const index row : {index{0}, index{1}, index{2}, index{5}, index{20}, rows - 3, rows - 2, rows - 1}) {
            if (row >= 0 && row < rows) begins.push_back(static_cast<int>(row));
        }
        check_boxes<2>(rows, begins), check_boxes<3>(rows, begins), check_boxes<8>(rows, begins), check_boxes<1000>(rows, begins);
    }
}

static constexpr int words = 256;

/// Copies a row to shared memory; stores twice what arrived, and adds what arrived, in two groups.
static __global__ void pass_rows(const float* from, float* stored, float* added) {
    __shared__ alignas(16) float room[2][words];
    __shared__ alignas(8) std::uint64_t barrier;
    const std::uint32_t arrived = ptx::shared_address(&barrier);
    if (threadIdx.x == 0) {
        ptx::mbarrier_init(arrived, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::mbarrier_arrive_expect(arrived, words * 4);
        for (int half = 0; half < 2; ++half) {  // both count towards the bytes of the phase
            ptx::copy_bulk(ptx::shared_address(room[0] + half * words / 2), from + half * words / 2, words * 2, arrived);
        }
    }
    ptx::mbarrier_wait(arrived, 0);
    room[1][threadIdx.x] = 2 * room[0][threadIdx.x];
    ptx::fence_async_proxy();
    __syncthreads();
    if (threadIdx.x == 0) {
        ptx::store_bulk(stored, ptx::shared_address(room[1]), words * 4);
        ptx::commit_bulk();
        ptx::add_bulk(added, ptx::shared_address(room[0]), words * 4);
        ptx::commit_bulk();
        ptx::wait_bulk<1>();                 // the store is done
        stored[words] = stored[words - 1];   // so this thread may read it
        ptx::wait_bulk_read<0>();            // shared memory may be used anew
        room[0][0] = 0;
        ptx::wait_bulk<0>();
    }
}

TEST_CASE("rows in bulk: to shared memory, back, and added to what is there") {
    const std::vector<float> values = random_values<float>(words, 1), before = random_values<float>(words, 2);
    const device_array<float> from(values);
    device_array<float> stored(words + 1), added(before);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    pass_rows<<<1, words, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(from.data(), stored.data(), added.data());
    longspan::cuda::check_launch("test");
    const std::vector<float> a = stored.get(), b = added.get();
    for (std::size_t i = 0; i < words; ++i) {
        CHECK(a[i] == 2 * values[i]);
        CHECK(b[i] == before[i] + values[i]);
    }
    CHECK(a[words] == 2 * values[words - 1]);
}

}  // namespace cuda_test
