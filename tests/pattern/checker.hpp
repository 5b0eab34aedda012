// SPDX-License-Identifier: Apache-2.0
//
// What every pattern is checked against: its own `contains`, element by element. The same functions prove small cases at compile
// time, sweep large ones at run time, and are themselves tested by mutants (mutation.cpp).
#pragma once

#include <longspan/pattern/documents.hpp>

namespace longspan::checker {

/// exact: any and all say neither too much nor too little. slack: sound, but a tile may be visited or tested without need.
enum class verdict { unsound, slack, exact };

constexpr verdict worse(verdict a, verdict b) { return a < b ? a : b; }

/// Sorted, disjoint, non-empty, not touching, within capacity.
template <int C>
constexpr bool well_formed(const interval_set<C>& set) {
    if (set.count < 0 || set.count > C) return false;
    for (int i = 0; i < set.count; ++i) {
        if (set.items[i].begin < 0 || set.items[i].empty()) return false;
        if (i > 0 && set.items[i].begin <= set.items[i - 1].end) return false;
    }
    return true;
}

namespace detail {

// Every run of [0, Size) on one side against the truth on the other. `sees(own, other)`, `seen(run)`.
template <int Size, class Sees, class Seen>
constexpr verdict check_side(const Sees& sees, const Seen& seen) {
    verdict result = verdict::exact;
    for (index begin = 0; begin < Size; ++begin) {
        bool by_any[Size]{}, by_all[Size]{};
        for (index other = 0; other < Size; ++other) by_all[other] = true;
        for (index end = begin + 1; end <= Size; ++end) {
            const auto sets = seen(interval{begin, end});
            if (!well_formed(sets.any) || !well_formed(sets.all)) return verdict::unsound;
            for (index other = 0; other < Size; ++other) {
                by_any[other] = by_any[other] || sees(end - 1, other);
                by_all[other] = by_all[other] && sees(end - 1, other);
                const bool any = sets.any.contains(other), all = sets.all.contains(other);
                if ((by_any[other] && !any) || (all && !by_all[other])) return verdict::unsound;
                if (any != by_any[other] || all != by_all[other]) result = verdict::slack;
            }
        }
    }
    return result;
}

}  // namespace detail

/// `keys` and `queries` for every run of [0, Size).
template <int Size, pattern P>
constexpr verdict check_sets(const typename P::arguments& a = {}, index document = 0) {
    const verdict keys = detail::check_side<Size>([&](index q, index k) { return P::contains(a, document, q, k); },
                                                  [&](interval run) { return P::keys(a, document, run); });
    const verdict queries = detail::check_side<Size>([&](index k, index q) { return P::contains(a, document, q, k); },
                                                     [&](interval run) { return P::queries(a, document, run); });
    return worse(keys, queries);
}

/// Mask words against contains; first positions from −3, so that words begin before, on and behind every position.
template <int Size, pattern P>
constexpr bool check_bits(const typename P::arguments& a = {}, index document = 0, index step = 1) {
    for (index own = 0; own < Size; ++own) {
        for (index first = -3; first < Size; first += step) {
            const std::uint32_t keys = P::key_bits(a, document, own, first), queries = P::query_bits(a, document, own, first);
            for (index i = first < 0 ? -first : 0; i < 32; ++i) {
                if (((keys >> i) & 1u) != (P::contains(a, document, own, first + i) ? 1u : 0u)) return false;
                if (((queries >> i) & 1u) != (P::contains(a, document, first + i, own) ? 1u : 0u)) return false;
            }
        }
    }
    return true;
}

/// What the tests of one leaf assert at compile time; the step keeps a compiler's budget of evaluations.
template <pattern P>
constexpr bool proven(const typename P::arguments& a = {}, index document = 0, verdict expected = verdict::exact) {
    return check_sets<17, P>(a, document) == expected && check_bits<17, P>(a, document, 5);
}

/// How run lists fared against brute force.
struct tally {
    long tiles = 0;
    long unsound = 0;        ///< a live element in a skipped tile, or a hidden one in a full tile
    long disorder = 0;       ///< runs out of order, overlapping, not maximal, outside the range, or of class empty
    long live = 0, full = 0;
    long empty_visited = 0;  ///< slack: empty, but visited as partial
    long full_tested = 0;    ///< slack: full, but visited as partial

    [[nodiscard]] constexpr bool sound() const { return unsound == 0 && disorder == 0; }
    [[nodiscard]] constexpr bool tight() const { return sound() && empty_visited == 0 && full_tested == 0; }
    constexpr tally& operator+=(const tally& other) {
        tiles += other.tiles, unsound += other.unsound, disorder += other.disorder, live += other.live, full += other.full;
        empty_visited += other.empty_visited, full_tested += other.full_tested;
        return *this;
    }
};

/// A run list against the truth: `seen[i]` elements of tile i are seen, of `size(i)`.
template <class Runs, class Seen, class Size>
constexpr tally check_runs(const Runs& runs, index tiles, const Seen& seen, const Size& size) {
    tally result{};
    index next = 0;
    tile_class before = tile_class::empty;
    const auto settle = [&](index i, tile_class kind) {
        const index live = seen(i);
        ++result.tiles;
        result.live += live > 0 ? 1 : 0;
        result.full += live == size(i) ? 1 : 0;
        if (kind == tile_class::empty && live > 0) ++result.unsound;
        if (kind == tile_class::full && live < size(i)) ++result.unsound;
        if (kind == tile_class::partial && live == 0) ++result.empty_visited;
        if (kind == tile_class::partial && live == size(i)) ++result.full_tested;
    };
    for (const tile_run& run : runs) {
        const bool prolongs = run.first == next && run.kind == before;
        if (run.first < next || run.last <= run.first || run.last > tiles || run.kind == tile_class::empty || prolongs) {
            ++result.disorder;
            return result;
        }
        for (; next < run.first; ++next) settle(next, tile_class::empty);
        for (; next < run.last; ++next) settle(next, run.kind);
        before = run.kind;
    }
    for (; next < tiles; ++next) settle(next, tile_class::empty);
    return result;
}

}  // namespace longspan::checker
