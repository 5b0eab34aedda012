// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/stack.hpp>

#include <doctest/doctest.h>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

namespace ls = longspan;

namespace {

constexpr auto local = ls::causal & ls::window<512>;
constexpr auto layers = ls::stack<local, local, ls::causal>;
using layered = ls::pattern_of<layers>;
using plain = ls::pattern_of<local>;

static_assert(ls::pattern_stack<layered> && ls::pattern_stack<plain> && !ls::pattern<layered> && !ls::pattern_stack<int>);
static_assert(ls::pattern_count<layered> == 3 && ls::pattern_count<plain> == 1);
static_assert(std::is_same_v<ls::pattern_at<layered, 0>, plain> && std::is_same_v<ls::pattern_at<layered, 4>, plain>);
static_assert(std::is_same_v<ls::pattern_at<layered, 2>, ls::causal_pattern> && std::is_same_v<ls::pattern_at<layered, 5>, ls::causal_pattern>);
static_assert(std::is_same_v<ls::pattern_at<plain, 7>, plain>);

}  // namespace

TEST_CASE("stack: layers take its patterns round and round") {
    CHECK_FALSE(ls::pattern_at<layered, 3>::contains({}, 0, 1000, 100));
    CHECK(ls::pattern_at<layered, 5>::contains({}, 0, 1000, 100));
}
