// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/loss_sizes.hpp>

namespace longspan {

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
