// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>
#include <longspan/core/error.hpp>

#include <type_traits>

namespace ls = longspan;

static_assert(std::is_base_of_v<std::runtime_error, ls::error>);
static_assert(std::is_base_of_v<ls::error, ls::bad_argument> && std::is_base_of_v<ls::error, ls::bad_corpus> &&
              std::is_base_of_v<ls::error, ls::bad_snapshot> && std::is_base_of_v<ls::error, ls::write_failed> &&
              std::is_base_of_v<ls::error, ls::out_of_memory>);

TEST_CASE("expects throws the sentence as the type asked for, and builds it only then") {
    int built = 0;
    const auto sentence = [&] {
        ++built;
        return "expected 3, got " + std::to_string(built);
    };
    ls::expects(true, sentence);
    CHECK(built == 0);
    CHECK_THROWS_WITH_AS(ls::expects(false, sentence), "expected 3, got 1", ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::expects<ls::bad_snapshot>(false, [] { return "truncated"; }), "truncated", ls::bad_snapshot);
}
