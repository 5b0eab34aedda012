// SPDX-License-Identifier: Apache-2.0
#include "../support.cuh"

#include <longspan/cuda/ptx/elect.cuh>

namespace cuda_test {

/// Who was chosen in each warp, asked twice.
static __global__ void choose(unsigned* first, unsigned* second) {
    const unsigned warp = threadIdx.x / 32;
    const unsigned once = __ballot_sync(~0u, longspan::cuda::ptx::elect());
    const unsigned again = __ballot_sync(~0u, longspan::cuda::ptx::elect());
    if (threadIdx.x % 32 == 0) first[warp] = once, second[warp] = again;
}

TEST_CASE("one lane of each warp is chosen, always the same") {
    device_array<unsigned> first(8), second(8);
    const own_stream stream;
    choose<<<1, 256, 0, static_cast<longspan::cuda::stream_ref>(stream)>>>(first.data(), second.data());
    longspan::cuda::check_launch("test");
    const std::vector<unsigned> once = first.get();
    for (const unsigned chosen : once) CHECK(__builtin_popcount(chosen) == 1);
    CHECK(once == second.get());
}

}  // namespace cuda_test
