// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/adamw_update.hpp>

#include <type_traits>

TEST_CASE("an update's scalars are what a kernel may take by value, and change no parameter by default") {
    static_assert(std::is_trivially_copyable_v<longspan::adamw_update>);
    constexpr longspan::adamw_update update{};
    CHECK(update.step == 0.0);
    CHECK(update.kept == 1.0);
}
