// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <array>
#include <map>
#include <numeric>
#include <vector>

#include <longspan/batch/shuffle.hpp>

namespace ls = longspan;

namespace {

template <std::size_t N>
constexpr std::array<int, N> order(std::uint64_t key) {
    std::array<int, N> items{};
    for (std::size_t i = 0; i < N; ++i) items[i] = static_cast<int>(i);
    ls::shuffle(std::span<int>(items), key);
    return items;
}

}  // namespace

// A resumed run depends on these orders: they may never change.
static_assert(order<1>(5) == std::array{0});
static_assert(order<8>(0) != order<8>(1));
static_assert(order<8>(42) == order<8>(42));

TEST_CASE("shuffle: a permutation, also of nothing") {
    ls::shuffle(std::span<int>(), 1);
    for (const std::size_t count : {1U, 2U, 3U, 1000U}) {
        std::vector<int> items(count), sorted(count);
        std::iota(items.begin(), items.end(), 0);
        ls::shuffle(std::span(items), 9);
        sorted = items;
        std::sort(sorted.begin(), sorted.end());
        for (std::size_t i = 0; i < count; ++i) CHECK(sorted[i] == static_cast<int>(i));
        if (count > 100) CHECK_FALSE(std::is_sorted(items.begin(), items.end()));
    }
}

TEST_CASE("shuffle: each of the 24 orders of 4 comes up as often as chance has it") {
    std::map<std::array<int, 4>, int> times;
    for (std::uint64_t key = 0; key < 24000; ++key) ++times[order<4>(key)];
    CHECK(times.size() == 24);
    double chi = 0;
    for (const auto& [what, n] : times) chi += (n - 1000.0) * (n - 1000.0) / 1000.0;
    CHECK(chi < 49.7);  // 23 degrees of freedom, one in a thousand
}
