// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/norm_sizes.hpp>

namespace longspan {

TEST_CASE("cuda norm sizes: two rows of floats per part") {
    static_assert(cuda::norm_workspace(768) == cuda::norm_parts * 2 * 768 * 4);
    static_assert(cuda::norm_workspace(0) == 0);
    // 2^31 bytes and more are counted, not wrapped.
    static_assert(cuda::norm_workspace(index{1} << 31) == cuda::norm_parts << 34);
    CHECK(cuda::norm_parts > 0);
}

}  // namespace longspan
