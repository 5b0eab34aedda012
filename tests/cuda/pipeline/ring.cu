// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/pipeline/ring.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>

namespace cuda_test {

namespace ptx = longspan::cuda::ptx;

static constexpr int lines = 41, readers = 64;

/// A warp fills slots with lines of 32 numbers, as far ahead as there are slots; two warps read each of them.
template <int Slots>
__global__ void pass_lines(const int* from, int* to, int ahead) {
    using ring = longspan::cuda::pipeline::ring<Slots>;
    __shared__ alignas(8) unsigned char barriers[ring::size];
    __shared__ int room[Slots][32];
    const ring slots{ptx::shared_address(barriers)};
    const int thread = static_cast<int>(threadIdx.x), lane = thread % 32;
    if (thread == 0) {
        slots.init(32, readers);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    typename ring::place at;
    if (thread < 32) {
        for (int line = 0; line < lines; ++line, at.advance()) {
            slots.wait_free(at);
            room[at.slot][lane] = from[line * 32 + lane];
            ptx::mbarrier_arrive(slots.full(at));
        }
    } else {
        for (int line = 0; line < lines; ++line, at.advance()) {
            if (line % ahead == 0) __nanosleep(2000);  // the filler runs into slots that are not free
            slots.wait_full(at);
            to[(line * readers + thread - 32)] = room[at.slot][31 - lane];
            slots.free(at);
        }
    }
}

template <int Slots>
void check_ring() {
    CAPTURE(Slots);
    std::vector<int> values(lines * 32);
    std::mt19937 engine(7);
    for (int& x : values) x = static_cast<int>(engine());
    const device_array<int> from(values);
    device_array<int> to(lines * readers);
    const own_stream stream;
    longspan::cuda::check(cudaDeviceSynchronize(), "test");
    pass_lines<Slots><<<1, 32 + readers, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(from.data(), to.data(), Slots + 1);
    longspan::cuda::check_launch("test");
    const std::vector<int> got = to.get();
    for (int line = 0; line < lines; ++line)
        for (int i = 0; i < readers; ++i) {
            CHECK(got[static_cast<std::size_t>(line * readers + i)] == values[static_cast<std::size_t>(line * 32 + 31 - i % 32)]);
        }
}

TEST_CASE("a ring of slots: every line once, in order, none overwritten before all have read it") {
    check_ring<1>();
    check_ring<2>();
    check_ring<3>();
}

}  // namespace cuda_test
