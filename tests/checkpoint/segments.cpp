// SPDX-License-Identifier: Apache-2.0
//
// Where rules lie in a stack, and what they make again. That they run is policy.cpp's.
#include <doctest/doctest.h>

#include <string_view>
#include <type_traits>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/selective.hpp>

namespace ls = longspan;
using ls::index;

TEST_CASE("segments: the square root is the shortest segment with the least sum of streams") {
    for (index blocks = 1; blocks < 200; ++blocks) {
        const index chosen = ls::detail::root_segment(blocks);
        const auto streams = [&](index k) { return ls::ceil_div(blocks, k) + k; };
        for (index k = 1; k <= blocks; ++k) {
            CHECK(streams(chosen) <= streams(k));
            if (k < chosen) CHECK(streams(k) > streams(chosen));
        }
    }
    CHECK(ls::detail::root_segment(16) == 4);
    CHECK(ls::detail::root_segment(12) == 3);
}

TEST_CASE("segments: where a mixture's rules lie") {
    constexpr auto mixed = ls::recompute_every<3>.for_blocks<7>().then(ls::selective.for_blocks<2>()).then(ls::store_all);
    using policy = std::remove_cvref_t<decltype(mixed)>;
    constexpr ls::rule_extent first = policy::extent(0, 12), second = policy::extent(1, 12), third = policy::extent(2, 12);
    CHECK(first.begin == 0);
    CHECK(first.segments == 3);
    CHECK(first.length_of(1) == 3);
    CHECK(first.length_of(2) == 1);
    CHECK(!first.last);
    CHECK(second.begin == 7);
    CHECK(second.blocks == 2);
    CHECK(second.from == ls::cost::attention);
    CHECK(third.begin == 9);
    CHECK(third.blocks == 3);
    CHECK(third.last);
    CHECK(policy::covers(12));
    CHECK(policy::covers(10));
    CHECK(!policy::covers(9));
    using exactly = std::remove_cvref_t<decltype(ls::store_all.for_blocks<2>().then(ls::selective.for_blocks<3>()))>;
    CHECK(exactly::covers(5));
    CHECK(!exactly::covers(6));
    CHECK(!exactly::covers(4));
    CHECK(std::string_view(policy::name) == "mixture");
    const auto name_of = [](auto one) { return std::string_view(decltype(one)::name); };
    CHECK(name_of(ls::store_all) == "store_all");
    CHECK(name_of(ls::selective) == "selective");
    CHECK(name_of(ls::selective_products) == "selective_products");
    CHECK(name_of(ls::recompute_every<2>) == "recompute_every");
    CHECK(name_of(ls::recompute_root) == "recompute_root");
    // Attention runs again in the seven recomputed blocks; products also in the two selective ones.
    CHECK(policy::made_again(ls::cost::attention, 12) == 7);
    CHECK(policy::made_again(ls::cost::product, 12) == 9);
    CHECK(policy::made_again(ls::cost::expansion, 12) == 9);
    CHECK(policy::made_again(ls::cost::output, 12) == 4);
}
