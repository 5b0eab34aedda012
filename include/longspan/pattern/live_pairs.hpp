// SPDX-License-Identifier: Apache-2.0
//
// How many (query, key) pairs of a document a pattern sees: what attention has to do, before there is a batch, as a constant.
//
//     live_pairs<pattern_of<causal & window<1024>>>(1'000'000)     1,023,476,224
//
// What a query sees is a few intervals, which change evenly from query to query: where they do, the ends of a stretch and three queries
// between tell of all of it, and elsewhere the stretch is halved. Exact for compositions of bands and strips in documents of up to 4,096
// tokens, and where changes come at multiples of what is left after 12 halvings; beside a change in a longer one the sum of a 4,096th of
// the document is off by a part of itself. Of combs and maps, whose intervals are not all seen, words of 32 keys are counted: of every query
// in documents of up to 1,024 tokens, else at most 256 of a query, in stretches down to a 64th of the document.
#pragma once

#include <bit>
#include <cstdint>
#include <type_traits>

#include <longspan/pattern/pattern.hpp>

namespace longspan {

namespace detail {

/// Keys that one query sees.
struct keys_of_query {
    double count = 0;
    bool counted = false;  ///< by words: not from intervals alone
};

template <pattern P>
[[nodiscard]] constexpr keys_of_query keys_seen(const typename P::arguments& a, index document, index query, index length) {
    constexpr index word = 32, most_words = 256;
    const auto seen = P::keys(a, document, {query, query + 1});
    keys_of_query result;
    for (int part = 0; part < seen.any.count; ++part) {
        const interval run = overlap(seen.any.items[part], {0, length});
        if (run.empty()) continue;
        bool whole = false;
        for (int all = 0; all < seen.all.count; ++all) whole = whole || overlap(seen.all.items[all], run) == run;
        if (whole) {
            result.count += static_cast<double>(run.length());
            continue;
        }
        result.counted = true;
        const index words = ceil_div(run.length(), word), step = ceil_div(words, most_words);
        index bits = 0, looked = 0;
        for (index w = 0; w < words; w += step) {
            const index first = run.begin + w * word;
            bits += std::popcount(P::key_bits(a, document, query, first) & bits_of(run, first));
            looked += word < run.end - first ? word : run.end - first;
        }
        result.count += static_cast<double>(bits) * static_cast<double>(run.length()) / static_cast<double>(looked);
    }
    return result;
}

/// Pairs of queries first … last, of which the ends are known.
template <pattern P>
[[nodiscard]] constexpr double pairs_between(const typename P::arguments& a, index document, index length, index first, keys_of_query at_first,
                                             index last, keys_of_query at_last, int halvings) {
    const index between = last - first;
    const double mean = (at_first.count + at_last.count) / 2;
    if (between <= 1 || halvings == 0) return mean * static_cast<double>(between + 1);
    const auto seen = [&](index query) { return keys_seen<P>(a, document, query, length).count; };
    if (at_first.counted && length <= 1024) {
        double pairs = 0;
        for (index query = first; query <= last; ++query) pairs += seen(query);
        return pairs;
    }
    const index half = first + between / 2;
    const keys_of_query at_half = keys_seen<P>(a, document, half, length);
    const auto even = [&](index query, double keys) {
        // Multiplied out, so that whole numbers stay whole.
        return (keys - at_first.count) * static_cast<double>(between) == (at_last.count - at_first.count) * static_cast<double>(query - first);
    };
    const index early = first + between / 4, late = last - between / 4;
    if (even(half, at_half.count) && even(early, seen(early)) && even(late, seen(late))) return mean * static_cast<double>(between + 1);
    if (at_half.counted && halvings > 6) halvings = 6;
    return pairs_between<P>(a, document, length, first, at_first, half, at_half, halvings - 1) +
           pairs_between<P>(a, document, length, half, at_half, last, at_last, halvings - 1) - at_half.count;
}

}  // namespace detail

/// Pairs that P sees in a document of `length` tokens; of a pattern with run-time values, under these.
template <pattern P>
[[nodiscard]] constexpr double live_pairs(index length, const typename P::arguments& a, index document = 0) {
    if (length <= 0) return 0;
    const auto seen = [&](index query) { return detail::keys_seen<P>(a, document, query, length); };
    return length == 1 ? seen(0).count : detail::pairs_between<P>(a, document, length, 0, seen(0), length - 1, seen(length - 1), 12);
}

/// Whether a pattern's pairs are known before the run.
template <pattern P>
inline constexpr bool pairs_are_known = std::is_empty_v<typename P::arguments>;

template <pattern P>
    requires pairs_are_known<P>
[[nodiscard]] constexpr double live_pairs(index length) {
    return live_pairs<P>(length, {});
}

}  // namespace longspan
