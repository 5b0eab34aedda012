// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/types.hpp>

#include <initializer_list>
#include <type_traits>

namespace ls = longspan;

static_assert(std::is_signed_v<ls::index> && sizeof(ls::index) == 8 && sizeof(ls::bytes) == 8);
static_assert(ls::GiB == 1073741824);

TEST_CASE("division rounds as it says, on both sides of zero and of a multiple") {
    for (ls::index b : {1, 2, 3, 7, 64}) {
        for (ls::index a = 0; a < 200; ++a) {
            ls::index up = 0;
            while (up * b < a) ++up;
            CHECK(ls::ceil_div(a, b) == up);
            CHECK(ls::round_up(a, b) == up * b);
        }
        for (ls::index a = -200; a < 200; ++a) {
            const ls::index down = ls::floor_div(a, b);
            CHECK((down * b <= a && a < (down + 1) * b));
        }
    }
    static_assert(ls::ceil_div(ls::index(1) << 40, 3) == 366503875926);
}
