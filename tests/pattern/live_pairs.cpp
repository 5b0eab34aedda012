// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/live_pairs.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

/// Every query by every key.
template <ls::pattern P>
double counted(index length, const typename P::arguments& a = {}) {
    index pairs = 0;
    for (index q = 0; q < length; ++q)
        for (index k = 0; k < length; ++k) pairs += P::contains(a, 0, q, k) ? 1 : 0;
    return static_cast<double>(pairs);
}

template <auto Pattern>
void agrees(double within = 0) {
    using P = ls::pattern_of<Pattern>;
    for (const index length : {1, 2, 3, 31, 64, 100, 257, 1024, 2000}) {
        CAPTURE(length);
        const double expected = counted<P>(length);
        CHECK(std::abs(ls::live_pairs<P>(length) - expected) <= within * expected);
    }
}

TEST_CASE("live pairs: bands and strips to the pair") {
    agrees<ls::full>();
    agrees<ls::causal>();
    agrees<ls::window<7>>();
    agrees<ls::causal & ls::window<1>>();
    agrees<ls::causal & ls::window<100>>();
    agrees<ls::causal & (ls::window<20> | ls::first<3>)>();
    agrees<ls::causal & (ls::window<64> | ls::global<5>)>();
    agrees<ls::window<33> | ls::global<17>>();
}

TEST_CASE("live pairs: combs, of which words are counted") {
    agrees<ls::causal & ls::strided<3>>(0.03);
    agrees<ls::causal & ls::dilated_window<16, 4>>(0.03);
    agrees<ls::causal & (ls::window<8> | ls::strided<16>)>(0.03);
}

TEST_CASE("live pairs: constants of combs, within a compiler's patience") {
    using comb = ls::pattern_of<ls::causal & ls::dilated_window<64, 8>>;
    constexpr double found = ls::live_pairs<comb>(131072), exact = 64.0 * 131072 - 8 * 64.0 * 63 / 2;
    static_assert(found > 0.97 * exact && found < 1.03 * exact);
}

TEST_CASE("live pairs: long documents as constants") {
    constexpr index n = 1 << 20;
    using causal = ls::pattern_of<ls::causal>;
    using local = ls::pattern_of<ls::causal & ls::window<1024>>;
    constexpr double nd = static_cast<double>(n);
    static_assert(ls::live_pairs<causal>(n) == nd * (nd + 1) / 2);
    static_assert(ls::live_pairs<local>(4096) == 1024.0 * 4096 - 1024.0 * 1023 / 2);
    constexpr double exact = 1024 * nd - 1024.0 * 1023 / 2, found = ls::live_pairs<local>(n);
    static_assert(found > exact * (1 - 1e-6) && found < exact * (1 + 1e-6));
    constexpr double none = ls::live_pairs<causal>(0);
    static_assert(none == 0);
}

TEST_CASE("live pairs: what is known at run time alone") {
    using lm = ls::pattern_of<ls::causal | ls::prefix>;
    static_assert(!ls::pairs_are_known<lm> && ls::pairs_are_known<ls::pattern_of<ls::causal>>);
    const index lengths[] = {37};
    const ls::prefix_lengths a{lengths};
    for (const index length : {1, 30, 200}) CHECK(ls::live_pairs<lm>(length, a) == counted<lm>(length, a));
}

}  // namespace
