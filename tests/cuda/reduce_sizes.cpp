// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/reduce_sizes.hpp>

namespace longspan {

TEST_CASE("cuda reduce sizes: a double per part") {
    static_assert(cuda::sum_of_squares_workspace() == cuda::sum_parts * 8);
    CHECK(cuda::sum_parts > 0);
}

}  // namespace longspan
