// SPDX-License-Identifier: Apache-2.0
//
// Which segments of a rule leave, and how many of their streams. That they do is policy.cpp's.
#include <doctest/doctest.h>

#include <longspan/checkpoint/rule.hpp>

TEST_CASE("rule: the last segments stay in their slots, and a stream that others made is theirs") {
    const auto rule = [](longspan::index begin, longspan::index segments, longspan::index slots) {
        return longspan::rule_extent{.begin = begin, .blocks = segments, .length = 1, .segments = segments, .slots = slots};
    };
    CHECK(rule(0, 16, 2).leaving() == 14);
    CHECK(rule(0, 16, 2).slots_used() == 2);
    CHECK(rule(0, 16, 2).streams_held() == 2);
    CHECK(rule(0, 16, 2).streams_leaving() == 14);
    CHECK(rule(4, 12, 3).leaving() == 9);
    CHECK(rule(4, 12, 3).streams_held() == 3);
    CHECK(rule(4, 12, 3).streams_leaving() == 8);
    CHECK(rule(4, 2, 2).leaving() == 0);
    CHECK(rule(0, 16, 0).leaving() == 0);
    CHECK(rule(4, 2, 2).slots_used() == 2);
    CHECK(rule(4, 2, 2).streams_held() == 1);
    CHECK(rule(0, 2, 2).streams_held() == 2);
    CHECK(rule(4, 1, 3).slots_used() == 1);
    CHECK(rule(4, 1, 3).streams_held() == 0);
    CHECK(rule(4, 1, 3).streams_leaving() == 0);
}
