// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <initializer_list>

#include <longspan/cuda/hopper/attention_sizes.hpp>

namespace longspan {

namespace hopper = cuda::hopper;

TEST_CASE("hopper attention sizes: every part of the scratch has its bytes, aligned, and none lies on another") {
    for (const index tokens : {0, 1, 127, 128, 65537}) {
        for (const index heads : {1, 3, 16}) {
            for (const index head_dim : {64, 128}) {
                const auto at = hopper::detail::backward_layout_of(tokens, heads, heads, head_dim);
                const index rows = tokens * heads;
                // Log-sum-exp and delta; marks; dQ; 32 parts of each sink; a counter.
                const std::array<bytes, 5> sizes{rows * 8, rows * 4, rows * head_dim * 4, heads * 32 * 8, 4};
                const std::array<bytes, 6> begins{0, at.marks, at.dq_sums, at.sink_parts, at.counter, at.size};
                for (std::size_t i = 0; i < sizes.size(); ++i) {
                    CHECK(begins[i] % cuda::workspace_alignment == 0);
                    CHECK(begins[i + 1] - begins[i] == round_up(sizes[i], cuda::workspace_alignment));
                }
            }
        }
    }
}

TEST_CASE("hopper attention sizes: sums of dQ have at most 1 GiB, in which whole groups of heads take turns") {
    using hopper::detail::heads_at_once;
    static_assert(heads_at_once(65536, 16, 16, 128) == 16 && heads_at_once(1 << 20, 64, 64, 128) == 2 && heads_at_once(1 << 20, 64, 8, 64) == 8);
    static_assert(heads_at_once(0, 6, 2, 64) == 6 && heads_at_once(8 << 20, 6, 3, 128) == 2, "at least one group");
    // A million tokens with 64 heads of 128: 2 GiB at most.
    static_assert(hopper::attention_backward_workspace(1 << 20, 64, 64, 128) <= 2 * GiB);
    static_assert(hopper::attention_backward_workspace(4'000'000, 16, 16, 128) > index{1} << 31, "64 bits");
}

}  // namespace longspan
