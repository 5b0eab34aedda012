// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include <doctest/doctest.h>

#include <longspan/core/cross_entropy_sums.hpp>

static_assert(std::is_trivially_copyable_v<longspan::cross_entropy_sums>);

TEST_CASE("cross_entropy_sums: add up field by field") {
    longspan::cross_entropy_sums sums{1.5, 2, 3};
    sums += {0.25, 8, 40};
    CHECK(sums.loss == 1.75);
    CHECK(sums.weight == 10);
    CHECK(sums.targets == 43);
}
