// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/gemm_sizes.hpp>

namespace longspan {

TEST_CASE("the scratch of products is a constant, and holds the partial sums of a bias of any usual width") {
    static_assert(cuda::gemm_workspace == 32 * MiB);
    static_assert(cuda::gemm_workspace % cuda::workspace_alignment == 0);
    static_assert(cuda::bias_gradient_workspace(768) == 128 * 768 * 4);
    CHECK(cuda::bias_gradient_workspace(65536) <= cuda::gemm_workspace);
}

}  // namespace longspan
