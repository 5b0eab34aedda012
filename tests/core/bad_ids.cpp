// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include <doctest/doctest.h>

#include <longspan/core/bad_ids.hpp>

static_assert(std::is_trivially_copyable_v<longspan::bad_ids>);

TEST_CASE("bad_ids: one of them is enough") {
    CHECK(!longspan::bad_ids{}.any());
    CHECK(longspan::bad_ids{.token = 0}.any());
    CHECK(longspan::bad_ids{.target = 5}.any());
    CHECK(!longspan::bad_ids{.stream = 5}.any());
    CHECK(longspan::bad_ids{.stream = 5}.overflowed());
    CHECK(!longspan::bad_ids{.token = 5}.overflowed());
}
