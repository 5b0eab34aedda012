// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <type_traits>

#include <longspan/precision/fixed_point.hpp>
#include <longspan/precision/policy.hpp>

namespace ls = longspan;

static_assert(sizeof(ls::fixed32) == 4 && sizeof(ls::fixed64) == 8);
static_assert(std::is_trivially_copyable_v<ls::fixed32> && std::is_trivial_v<ls::fixed64>);
static_assert(ls::fixed32::range == 4096 && ls::fixed64::range == 16384);
static_assert(ls::fixed32::step == 0x1p-18f && ls::fixed64::step == 0x1p-48);
static_assert(float(ls::fixed32{1}) == 0x1p-18f && double(ls::fixed64{-3}) == -3 * 0x1p-48);
static_assert(float(ls::fixed32{(1 << 24) + 1}) == 0x1p6f);  // a tie, to even
static_assert(float(ls::fixed32{(1 << 24) + 3}) == float((1 << 24) + 4) * 0x1p-18f);
static_assert(ls::fixed32{(1 << 30) - 1}.in_range() && !ls::fixed32{1 << 30}.in_range());
static_assert(ls::fixed32{1 - (1 << 30)}.in_range() && !ls::fixed32{-(1 << 30)}.in_range());
static_assert(ls::fixed_format<ls::fixed32> && ls::fixed_format<const ls::fixed64> && !ls::fixed_format<float>);
static_assert(ls::stream_format<ls::fixed32> && !ls::storage_format<ls::fixed32>);  // ops that write floats do not take it for one
static_assert(std::is_same_v<ls::fixed_stream<double>, ls::fixed64> && std::is_same_v<ls::fixed_stream<float>, ls::fixed32>);

// Only the residual stream is.
using paired = ls::fixed_residual<ls::mixed_precision<ls::bf16>>;
static_assert(ls::precision_policy<paired>);
static_assert(std::is_same_v<ls::storage_of<paired, ls::role::residual>, ls::fixed32>);
static_assert(std::is_same_v<ls::storage_of<paired, ls::role::gradient>, ls::bf16>);
static_assert(std::is_same_v<ls::storage_of<ls::fixed_residual<ls::uniform_precision<double>>, ls::role::residual>, ls::fixed64>);

namespace {

template <class F>
void sums_are_undone() {
    using units = typename F::units_type;
    std::mt19937_64 random(1);
    for (int i = 0; i < 100000; ++i) {
        const F a{static_cast<units>(random())}, b{static_cast<units>(random())};  // in range or not
        REQUIRE((a + b) - b == a);
        REQUIRE((a - b) + b == a);
        if (!a.in_range() || !b.in_range()) continue;
        REQUIRE(static_cast<long double>((a + b).units) == static_cast<long double>(a.units) + static_cast<long double>(b.units));  // no wrap
    }
}

}  // namespace

TEST_CASE("fixed_point: sums are undone to the bit, and of two values in range none wraps") {
    sums_are_undone<ls::fixed32>();
    sums_are_undone<ls::fixed64>();
}

TEST_CASE("fixed_point: what fits is in range, and nothing that is no number does") {
    const auto edge = [](auto of) {
        using F = decltype(of);
        using C = typename F::compute;
        const C limit = static_cast<C>(F::limit), below = std::nextafter(limit, C(0));
        for (const C sign : {C(1), C(-1)}) {
            CHECK(F::fits(sign * below));
            CHECK(F{static_cast<typename F::units_type>(sign * below)}.in_range());
            CHECK(!F::fits(sign * limit));
            CHECK(!F::fits(sign * std::numeric_limits<C>::infinity()));
        }
        CHECK(F::fits(C(0)));
        CHECK(!F::fits(std::numeric_limits<C>::quiet_NaN()));
    };
    edge(ls::fixed32{});
    edge(ls::fixed64{});
}
