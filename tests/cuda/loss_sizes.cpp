// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <initializer_list>

#include <longspan/cuda/loss_sizes.hpp>

namespace longspan {

TEST_CASE("a window of 1024 tokens of the largest vocabulary is made in three parts; dz never falls on logits still to be read") {
    static_assert(cuda::detail::loss_part<bf16>(1024, 131072, 0, 1024) == 512);
    static_assert(cuda::detail::loss_part<bf16>(1024, 131072, 512, 1024) == 320);
    static_assert(cuda::detail::loss_part<bf16>(1024, 131072, 832, 1024) == 192);
    for (const index vocabulary : {1, 256, 50257, 131072, 1 << 22})
        for (const index window : {1, 2, 7, 9, 10, 63, 239, 240, 241, 1024, 3000}) {
            const bytes row = cuda::loss_stride(vocabulary) * 2;
            const index room = cuda::loss_rows_bytes<bf16>(window, vocabulary) / row;
            CHECK(cuda::loss_rows_bytes<bf16>(window, vocabulary) >= window * row + cuda::gemm_workspace);
            for (index part = 0, tokens = 0; part < window; part += tokens) {
                tokens = cuda::detail::loss_part<bf16>(window, vocabulary, part, window);
                const index lead = room - 2 * tokens - part;  // logits are two rows of dz each, at the end of the room
                REQUIRE(tokens > 0);
                REQUIRE(lead > 0);
                for (index done = 0, until = 0; done < tokens; done = until) {
                    until = cuda::detail::loss_rows_until(lead, done, tokens);
                    REQUIRE(until > done);
                    for (index r = done; r < until; ++r) REQUIRE((r < lead || (r - lead) / 2 < done || until == done + 1));
                }
            }
        }
}

TEST_CASE("the window of a loss is the longest whose scratch fits") {
    static_assert(cuda::loss_stride(50257) == 50304 && cuda::loss_stride(131072) == 131072);
    constexpr index large = cuda::loss_window<bf16>(32768, 131072);
    static_assert(cuda::loss_workspace<bf16>(large, 131072) <= 320 * MiB && cuda::loss_workspace<bf16>(large + 128, 131072) > 320 * MiB);
    static_assert(cuda::loss_window<bf16>(7, 131072) == 7, "no longer than the tokens");
    static_assert(cuda::loss_window<bf16>(0, 131072) == 1);
    static_assert(cuda::loss_window<float>(1 << 20, 1 << 28, 8 * GiB) == 7, "a window shorter than 128 where only that fits");
    static_assert(cuda::loss_window<float>(1 << 20, 1 << 28, GiB) == 1, "at least one token, within the limit or not");
    CHECK(cuda::loss_window<bf16>(32768, 256) == 8192);
}

}  // namespace longspan
