// SPDX-License-Identifier: Apache-2.0
//
// What offload<policy> is as a value, and what it saves. That it runs is policy.cpp's, and its bits are recompute.cpp's.
#include <doctest/doctest.h>

#include <string_view>
#include <type_traits>

#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/selective.hpp>

namespace ls = longspan;

namespace {

template <auto Policy>
using type = std::remove_cvref_t<decltype(Policy)>;
constexpr auto mixture = ls::store_all.for_blocks<4>().then(ls::offload<ls::selective>);

}  // namespace

TEST_CASE("offload: the policy's own rules, whose segments leave") {
    using away = type<ls::offload<ls::selective>>;
    static_assert(away::offloads && !away::may_wait && !type<ls::selective>::offloads && type<ls::selective>::may_wait);
    static_assert(away::rules[0].slots == 2 && away::rules[0].kept_from == ls::cost::attention && away::covers(5));
    static_assert(ls::checkpoint_policy<away> && ls::offloads<away> && !ls::offloads<type<ls::store_all>>);
    static_assert(type<ls::offload<ls::recompute_every<3>, 4>>::rules[0].slots == 4);
    static_assert(type<ls::offload<ls::recompute_every<3>, 4>>::rules[0].segment == 3);
    static_assert(type<ls::offload<ls::selective>.even_if_slow()>::may_wait);
    static_assert(type<ls::offload<ls::selective>.even_if_slow()>::rules[0].slots == 2);
    static_assert(type<ls::offload<ls::selective>.even_if_slow().for_blocks<3>()>::may_wait);
    static_assert(type<ls::offload<ls::selective>.for_blocks<3>()>::rules[0].slots == 2);
    for (const auto what : {ls::cost::expansion, ls::cost::product, ls::cost::attention, ls::cost::output}) {
        CHECK(away::made_again(what, 9) == type<ls::selective>::made_again(what, 9));
    }
    CHECK(std::string_view(away::name) == "offload of selective");
    CHECK(std::string_view(type<ls::offload<ls::store_all>>::name) == "offload of store_all");
    CHECK(std::string_view(type<ls::offload<ls::recompute_root>>::name) == "offload of recompute_root");
}

TEST_CASE("offload: of a mixture every part leaves, each through its own transfers; a part may stay") {
    static_assert(type<mixture>::offloads && !type<mixture>::may_wait);
    static_assert(type<mixture>::extent(0, 9).slots == 0 && type<mixture>::extent(1, 9).slots == 2);
    using both = type<ls::offload<ls::recompute_every<2>.for_blocks<4>().then(ls::selective), 3>>;
    static_assert(both::extent(0, 9).transfers == 0 && both::extent(1, 9).transfers == 9 && both::transfers == 18);
    static_assert(type<ls::store_all.for_blocks<4>().then(ls::offload<ls::selective>.even_if_slow())>::may_wait);
    static_assert(!type<ls::offload<ls::store_all>.for_blocks<4>().then(ls::offload<ls::selective>.even_if_slow())>::may_wait);
    CHECK(ls::offload<ls::selective> == ls::offload<ls::selective, 2>);
}

TEST_CASE("offload: the device holds slots, whatever the depth, and the host the rest") {
    const auto stack = [](ls::index blocks) {
        ls::layout saved = ls::together("saved", ls::region("k", 3000, ls::cost::attention), ls::region("r", 17000, ls::cost::product));
        return ls::stack_bytes{.blocks = blocks, .stream = 1000, .saved = saved, .forward_scratch = ls::region("f", 3000),
                               .backward_scratch = ls::region("b", 5000), .turn = ls::region("t", 4000)};
    };
    using away = type<ls::offload<ls::selective>>;
    for (const ls::index blocks : {2, 16, 100}) {
        CHECK(away::plan(stack(blocks)).peak(1) == 2 * 4000 + 17000 + 1000 + 4000);
        CHECK(away::pinned(stack(blocks)).peak(1) == (blocks - 2) * 4000);
    }
    CHECK(type<ls::store_all>::pinned(stack(16)).peak(1) == 0);
    CHECK(type<mixture>::plan(stack(16)).peak(1) == 1000 + 4 * 21000 + away::plan(stack(12)).peak(1));
    CHECK(type<mixture>::pinned(stack(16)).peak(1) == 10 * 4000 - 1000);
}
