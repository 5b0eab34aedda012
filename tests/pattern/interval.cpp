// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/interval.hpp>

#include <doctest/doctest.h>

#include <random>

#include "checker.hpp"

namespace ls = longspan;

namespace {

// The set of the bits of a word.
template <int C>
ls::interval_set<C> set_of(unsigned bits) {
    ls::interval_set<C> set{};
    for (ls::index i = 0; i < 16; ++i) {
        if ((bits >> i) & 1u) set.append({i, i + 1});
    }
    return set;
}

template <int C>
unsigned bits_in(const ls::interval_set<C>& set) {
    unsigned bits = 0;
    for (int i = 0; i < 16; ++i) bits |= set.contains(i) ? 1u << i : 0u;
    return bits;
}

}  // namespace

TEST_CASE("interval: union and intersection equal those of bits") {
    std::mt19937 random(1);
    for (int round = 0; round < 20000; ++round) {
        const unsigned x = random() & 0xffffu, y = random() & random() & 0xffffu;
        const auto a = set_of<8>(x);
        const auto b = set_of<8>(y);
        REQUIRE(bits_in(a) == x);
        const auto either = ls::unite(a, b);
        const auto both = ls::intersect(a, b);
        CHECK(ls::checker::well_formed(either));
        CHECK(ls::checker::well_formed(both));
        CHECK(bits_in(either) == (x | y));
        CHECK(bits_in(both) == (x & y));
        // Beyond the capacity: joined is a superset, dropped a subset.
        CHECK((bits_in(ls::unite<2, ls::overflow::join>(a, b)) | x | y) == bits_in(ls::unite<2, ls::overflow::join>(a, b)));
        CHECK((bits_in(ls::unite<2, ls::overflow::drop>(a, b)) & ~(x | y)) == 0u);
        CHECK((bits_in(ls::intersect<2, ls::overflow::join>(a, b)) | (x & y)) == bits_in(ls::intersect<2, ls::overflow::join>(a, b)));
        CHECK((bits_in(ls::intersect<2, ls::overflow::drop>(a, b)) & ~(x & y)) == 0u);
    }
}

TEST_CASE("interval: negative positions are cut off, touching intervals joined, empty ones left out") {
    ls::interval_set<3> set{};
    set.append({-5, 2});
    set.append({2, 4});
    set.append({7, 7});
    set.append({9, 12});
    REQUIRE(set.count == 2);
    CHECK(set.items[0] == ls::interval{0, 4});
    CHECK(set.items[1] == ls::interval{9, 12});
    CHECK(ls::just({-3, 0}).count == 0);
}

TEST_CASE("interval: bits of a word") {
    for (ls::index first : {ls::index{-40}, ls::index{-1}, ls::index{0}, ls::index{17}, ls::index{1} << 40}) {
        for (ls::index begin = first - 3; begin < first + 40; ++begin) {
            for (ls::index end = begin; end < first + 40; ++end) {
                std::uint32_t expected = 0;
                for (ls::index i = 0; i < 32; ++i) expected |= first + i >= begin && first + i < end ? 1u << i : 0u;
                REQUIRE(ls::bits_of({begin, end}, first) == expected);
            }
        }
    }
}
