// SPDX-License-Identifier: Apache-2.0
//
// How many (query, key) pairs of a document a pattern sees: what attention has to do, before there is a batch, as a constant.
//
//     live_pairs<pattern_of<causal & window<1024>>>(1'000'000)     1,023,476,224
//
// What a query sees is a few intervals, which change evenly from query to query: where they do, the ends of a stretch and three queries
// between tell of all of it, and elsewhere the stretch is halved, 12 times at most. Exact for compositions of bands and strips in documents
// of up to 4,096 tokens; in longer ones the sum over a 4,096th of the document is off by a part of itself where something changes in it.
//
// Of combs and maps, whose intervals are not all seen, words of 32 keys are counted: of every query in documents of up to 256 tokens, else at
// most 32 of a query; and stretches of what changes everywhere end at a 64th of the document. An estimate, within three hundredths in tests.
// Either way a compiler takes less than a million steps, which is where clang ends.
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
    constexpr index word = 32, most_words = 32;
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

/// Queries first … last, of which the ends are known.
struct stretch {
    index first;
    keys_of_query at_first;
    index last;
    keys_of_query at_last;

    [[nodiscard]] constexpr index between() const { return last - first; }
    /// If keys change evenly.
    [[nodiscard]] constexpr double pairs() const { return (at_first.count + at_last.count) / 2 * static_cast<double>(between() + 1); }
    /// Whether `keys` of a query between are on the line from end to end: multiplied out, so that whole numbers stay whole.
    [[nodiscard]] constexpr bool even(index query, double keys) const {
        return (keys - at_first.count) * static_cast<double>(between()) == (at_last.count - at_first.count) * static_cast<double>(query - first);
    }
};

template <pattern P>
class pair_counter {
public:
    constexpr pair_counter(const typename P::arguments& a, index document, index length) : a_(a), document_(document), length_(length) {}

    [[nodiscard]] constexpr double pairs() const {
        if (length_ <= 0) return 0;
        const keys_of_query first = seen(0);
        if (length_ <= 2 || (first.counted && length_ <= 256)) return each(0, length_ - 1);
        const stretch all{0, first, length_ - 1, seen(length_ - 1)};
        return pairs_of(all, changes_everywhere() ? 6 : 12);
    }

private:
    [[nodiscard]] constexpr keys_of_query seen(index query) const { return keys_seen<P>(a_, document_, query, length_); }
    [[nodiscard]] constexpr double each(index first, index last) const {
        double pairs = 0;
        for (index query = first; query <= last; ++query) pairs += seen(query).count;
        return pairs;
    }
    [[nodiscard]] constexpr bool even(const stretch& s) const {
        const index half = s.first + s.between() / 2, early = s.first + s.between() / 4, late = s.last - s.between() / 4;
        return s.even(half, seen(half).count) && s.even(early, seen(early).count) && s.even(late, seen(late).count);
    }
    /// Whether most of 16 stretches are uneven: steps, not a few corners.
    [[nodiscard]] constexpr bool changes_everywhere() const {
        constexpr index parts = 16;
        if (length_ <= 4 * parts) return false;
        index uneven = 0;
        for (index part = 0; part < parts; ++part) {
            const index first = part * length_ / parts, last = (part + 1) * length_ / parts - 1;
            const stretch s{first, seen(first), last, seen(last)};
            if (!even(s) || s.at_first.counted) ++uneven;
        }
        return uneven > parts / 2;
    }
    [[nodiscard]] constexpr double pairs_of(const stretch& s, int halvings) const {
        if (s.between() <= 1) return each(s.first, s.last);
        if (halvings == 0 || even(s)) return s.pairs();
        const index half = s.first + s.between() / 2;
        const keys_of_query at_half = seen(half);
        return pairs_of({s.first, s.at_first, half, at_half}, halvings - 1) + pairs_of({half, at_half, s.last, s.at_last}, halvings - 1) - at_half.count;
    }

    const typename P::arguments& a_;
    index document_, length_;
};

}  // namespace detail

/// Pairs that P sees in a document of `length` tokens; of a pattern with run-time values, under these.
template <pattern P>
[[nodiscard]] constexpr double live_pairs(index length, const typename P::arguments& a, index document = 0) {
    return detail::pair_counter<P>(a, document, length).pairs();
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
