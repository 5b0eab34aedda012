// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <initializer_list>

#include <longspan/cuda/attention_sizes.hpp>

namespace longspan {

TEST_CASE("a schedule has room for every block that segments can make") {
    using cuda::detail::most_blocks;
    for (const index block : {cuda::detail::short_block, cuda::detail::long_block, cuda::detail::wide_block}) {
        for (index tokens : {index{0}, index{1}, block - 1, block, 5 * block + 3}) {
            for (index segments = 1; segments <= 7; ++segments) {
                // The worst is one token in each segment but one, up to what the tokens allow.
                const index ones = tokens < segments - 1 ? tokens : segments - 1;
                CHECK(ones + ceil_div(tokens - ones, block) <= most_blocks(tokens, segments, block));
            }
        }
    }
    static_assert(cuda::attention_segment_memory(100, 3) == cuda::attention_segment_memory(100, 100, 3));
    static_assert(cuda::attention_segment_memory(1, 1) % 256 == 0);
}

TEST_CASE("the backward's scratch is a float for each element of dQ, and little beside it") {
    static_assert(cuda::attention_backward_workspace(65536, 16, 16, 128) == 65536 * 16 * (8 + 4 + 4 * 128) + 16 * 32 * 8 + 256);
    static_assert(cuda::attention_backward_workspace(65536, 16, 16, 256) == 65536 * 16 * (8 + 4) + 16 * 32 * 8 + 256, "wide heads sum in registers");
    CHECK(cuda::attention_backward_workspace(0, 1, 1, 64) % 256 == 0);
}

}  // namespace longspan
