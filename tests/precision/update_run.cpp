// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>

#include <longspan/precision/bf16.hpp>
#include <longspan/precision/update_run.hpp>

namespace ls = longspan;

// A kernel takes it byte by byte.
static_assert(std::is_trivially_copyable_v<ls::update_run<void, ls::bf16, float, ls::eight_bit>>);
static_assert(ls::update_run<void, ls::bf16, float, ls::eight_bit>::granularity == 256);
static_assert(ls::update_run<float, ls::bf16, float, ls::bf16>::granularity == 128);

TEST_CASE("update_run: a part of a run has the scales of its own blocks") {
    std::uint8_t codes[1024];
    float scales[4], values[300];
    const auto part = ls::moment_run<ls::eight_bit>{codes, scales}.from(768);
    CHECK(part.values == codes + 768);
    CHECK(part.scales == scales + 3);
    CHECK(ls::moment_run<float>{values}.from(128).values == values + 128);
}
