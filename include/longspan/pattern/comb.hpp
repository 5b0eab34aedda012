// SPDX-License-Identifier: Apache-2.0
//
// Combs: a band of which every Step-th key is seen. Positions q and k that see each other leave the same remainder modulo Step, so
// each remainder's positions are a sequence of their own; within it, the i-th position after the first seeing one, the comb is a band
// again, with distances divided by Step. A kernel that walks one remainder after another has dense tiles:
//
//     P::contains(a, d, Step·i + r, Step·j + r) = by_remainder<P>::contains(a, d, i, j)        for every r in [0, Step)
//
// A pattern that is no comb is its own by_remainder, with a step of 1. Memory: none.
#pragma once

#include <numeric>
#include <type_traits>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>

namespace longspan {

/// A band with distances in units of Step positions. It is as empty as the band only if that holds distance 0, as every band does that
/// can be written.
template <pattern Band, index Step>
struct remainder_band : detail::band_pattern<remainder_band<Band, Step>, typename Band::arguments> {
    LONGSPAN_HD static constexpr detail::distances band(const typename Band::arguments& a) {
        const detail::distances d = Band::band(a);
        return {-floor_div(-d.low, Step), floor_div(d.high, Step)};
    }
};

namespace detail {

/// What a pattern is as a comb: its step, and the band that it is cut from. No band: it is no comb.
template <class P>
struct comb {
    static constexpr index step = 1;
    using band = std::conditional_t<is_band<P>, P, void>;
};
template <index Step>
struct comb<strided_pattern<Step>> {
    static constexpr index step = Step;
    using band = full_pattern;
};
// Steps that numbers of 32 bits leave room for; wider combs are walked as they are.
inline constexpr index widest_step = index{1} << 16;

/// The least that both divide, or something wider than is walked.
[[nodiscard]] constexpr index common_step(index a, index b) { return a > widest_step || b > widest_step ? widest_step + 1 : std::lcm(a, b); }

// What a full band leaves as it is keeps a short name.
template <class A, class B>
using band_of_both = std::conditional_t<std::is_same_v<A, full_pattern>, B, std::conditional_t<std::is_same_v<B, full_pattern>, A, both<A, B>>>;
template <class A, class B>
struct comb_of_both {
    static constexpr index step = 1;
    using band = void;
};
template <class A, class B>
    requires(!std::is_void_v<typename comb<A>::band> && !std::is_void_v<typename comb<B>::band>)
struct comb_of_both<A, B> {
    static constexpr index step = common_step(comb<A>::step, comb<B>::step);
    using band = band_of_both<typename comb<A>::band, typename comb<B>::band>;
};
template <class A, class B>
struct comb<both<A, B>> : comb_of_both<A, B> {};

template <class P>
struct reduced {
    using type = P;
};
template <class P>
    requires(!std::is_void_v<typename comb<P>::band> && comb<P>::step > 1 && comb<P>::step <= widest_step)
struct reduced<P> {
    using type = remainder_band<typename comb<P>::band, comb<P>::step>;
    static_assert(std::is_same_v<typename type::arguments, typename P::arguments>, "a comb's band takes the comb's arguments");
};

}  // namespace detail

/// What a pattern is within the positions of one remainder: a remainder_band, or itself.
template <pattern P>
using by_remainder = typename detail::reduced<P>::type;

/// Positions from one of a sequence to the next: those of one remainder for a remainder_band, else all.
template <class P>
inline constexpr int step_of = 1;
template <class Band, index Step>
inline constexpr int step_of<remainder_band<Band, Step>> = int{Step};

static_assert(pattern<by_remainder<pattern_of<causal & strided<2>>>>);

}  // namespace longspan
