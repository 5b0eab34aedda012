// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/comb.hpp>

#include <doctest/doctest.h>

#include <longspan/pattern/strip.hpp>

#include "checker.hpp"

namespace ls = longspan;
using ls::by_remainder, ls::pattern_of, ls::step_of;
using ls::index;

// A band of any distances, negative ones too.
template <index Low, index High>
struct any_band : ls::detail::band_pattern<any_band<Low, High>, ls::no_arguments> {
    LONGSPAN_HD static constexpr ls::detail::distances band(ls::no_arguments) { return {Low, High}; }
};

template <auto Value>
inline constexpr int step = step_of<by_remainder<pattern_of<Value>>>;

TEST_CASE("comb: what is one, and its step") {
    static_assert(step<ls::strided<3>> == 3 && step<ls::causal & ls::strided<4>> == 4 && step<ls::strided<4> & ls::causal> == 4);
    static_assert(step<ls::dilated_window<9, 8>> == 8 && step<ls::causal & ls::dilated_window<9, 8>> == 8);
    static_assert(step<ls::dilated_window<9, 4> & ls::causal & ls::strided<6>> == 12, "both combs at once");
    static_assert(step<ls::window_up_to & ls::strided<5>> == 5);
}

TEST_CASE("comb: a full band leaves the other as it is") {
    static_assert(std::is_same_v<by_remainder<pattern_of<ls::causal & ls::strided<3>>>, ls::remainder_band<ls::causal_pattern, 3>>);
    static_assert(std::is_same_v<by_remainder<pattern_of<ls::strided<3>>>, ls::remainder_band<ls::full_pattern, 3>>);
}

TEST_CASE("comb: what is none stays the pattern that it is") {
    const auto same = [](auto p) { return std::is_same_v<by_remainder<decltype(p)>, decltype(p)>; };
    static_assert(same(ls::full) && same(ls::causal) && same(ls::causal & ls::window<5>) && same(ls::first<3>));
    static_assert(same(ls::strided<1>) && same(ls::dilated_window<4, 1>), "every key is seen");
    static_assert(same(ls::causal & (ls::window<6> | ls::strided<6>)) && same(ls::strided<2> & ls::first<3>));
    static_assert(same(ls::strided<ls::detail::widest_step + 1>));
}

template <class P>
static void agrees(const typename P::arguments& a = {}) {
    using inner = by_remainder<P>;
    constexpr index s = step_of<inner>;
    long wrong = 0;
    for (index r = 0; r < s; ++r) {
        for (index i = 0; i < 40; ++i) {
            for (index j = 0; j < 40; ++j) wrong += inner::contains(a, 0, i, j) != P::contains(a, 0, s * i + r, s * j + r);
        }
    }
    // And other remainders do not see each other.
    for (index q = 0; q < 60; ++q) {
        for (index k = 0; k < 60; ++k) wrong += q % s != k % s && P::contains(a, 0, q, k);
    }
    CHECK(wrong == 0);
}

template <index Low, index High>
static void agrees_at_any_step() {
    using band = any_band<Low, High>;
    agrees<ls::both<band, ls::strided_pattern<2>>>();
    agrees<ls::both<ls::strided_pattern<3>, band>>();
    agrees<ls::both<band, ls::strided_pattern<7>>>();
    agrees<ls::both<band, ls::both<ls::strided_pattern<8>, band>>>();
}

TEST_CASE("comb: a remainder's band shows what the comb shows, whatever the distances and the step") {
    agrees_at_any_step<0, 0>();
    agrees_at_any_step<-1, 1>();
    agrees_at_any_step<-7, 0>();
    agrees_at_any_step<-8, 9>();
    agrees_at_any_step<-23, 24>();
    agrees_at_any_step<3, 17>();
    agrees_at_any_step<-19, -2>();
    agrees<pattern_of<ls::causal & ls::dilated_window<5, 3>>>();
    agrees<pattern_of<ls::dilated_window<1, 4>>>();
    agrees<pattern_of<ls::strided<6> & ls::strided<4>>>();
    for (const index width : {1, 2, 3, 8, 9, 30, 1000}) agrees<pattern_of<ls::causal & (ls::strided<4> & ls::window_up_to)>>({width});
    agrees<pattern_of<ls::window_up_to & (ls::strided<3> & ls::window_up_to)>>({{9}, {14}});
}

static_assert(ls::checker::proven<by_remainder<pattern_of<ls::causal & ls::dilated_window<4, 3>>>>());
static_assert(ls::checker::proven<by_remainder<pattern_of<ls::strided<5>>>>());
static_assert(ls::checker::proven<by_remainder<pattern_of<ls::window<7> & ls::strided<3>>>>());
