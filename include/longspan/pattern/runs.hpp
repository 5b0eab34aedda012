// SPDX-License-Identifier: Apache-2.0
//
// The live tiles of a tile on the other side, as maximal runs of one class, in order: what a kernel walks. The sets of the
// calculus are merged once; then each run costs O(1) and an empty tile nothing at all: O(runs + intervals) for a whole row of
// tiles, 32 bytes per interval of the pattern's capacity.
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Tiles [first, last) of one class: partial or full.
struct tile_run {
    index first = 0;
    index last = 0;
    tile_class kind = tile_class::partial;

    friend constexpr bool operator==(const tile_run&, const tile_run&) = default;
};

/// Walks the live tiles of a range: tile i holds positions [range.begin + i·tile, … + tile), the last cut at range.end.
template <int Capacity>
struct run_walk {
    any_all<Capacity> seen;
    interval range;
    index tile;
    index next_tile = 0;  ///< tiles before this one are settled
    int any_next = 0;     ///< the first interval of `any` that may still matter
    int all_next = 0;     ///< the first interval of `all` that may still matter

    /// The next run; false behind the last.
    LONGSPAN_HD [[nodiscard]] constexpr bool next(tile_run& run) {
        while (any_next < seen.any.count && begin_of(next_tile) >= seen.any.items[any_next].end) ++any_next;
        if (any_next == seen.any.count) return false;
        const index first = larger(next_tile, touched_from(seen.any.items[any_next]));
        if (first >= count()) return false;

        // The next stretch of whole tiles inside one interval of `all`.
        index whole_first = no_end, whole_last = no_end;
        for (; all_next < seen.all.count; ++all_next) {
            whole_first = larger(first, whole_from(seen.all.items[all_next]));
            whole_last = whole_to(seen.all.items[all_next]);
            if (whole_first < whole_last) break;
            whole_first = no_end;
        }
        if (whole_first == first) {
            run = {first, whole_last, tile_class::full};
        } else {
            index last = touched_to(seen.any.items[any_next]);
            while (last < whole_first && any_next + 1 < seen.any.count && touched_from(seen.any.items[any_next + 1]) <= last) {
                last = touched_to(seen.any.items[++any_next]);
            }
            run = {first, last < whole_first ? last : whole_first, tile_class::partial};
        }
        next_tile = run.last;
        return true;
    }

private:
    LONGSPAN_HD static constexpr index larger(index a, index b) { return a > b ? a : b; }
    LONGSPAN_HD constexpr index count() const { return ceil_div(range.length(), tile); }
    LONGSPAN_HD constexpr index begin_of(index i) const { return range.begin + i * tile; }
    // Tiles [touched_from, touched_to) hold a position of the interval; [whole_from, whole_to) lie inside it.
    LONGSPAN_HD constexpr index touched_from(interval x) const { return floor_of(x.begin); }
    LONGSPAN_HD constexpr index touched_to(interval x) const { return ceil_of(x.end); }
    LONGSPAN_HD constexpr index whole_from(interval x) const { return ceil_of(x.begin); }
    LONGSPAN_HD constexpr index whole_to(interval x) const { return floor_of(x.end); }
    // A position behind the range is behind its last tile, however short that one is.
    LONGSPAN_HD constexpr index floor_of(index at) const {
        return at >= range.end ? count() : at <= range.begin ? 0 : (at - range.begin) / tile;
    }
    LONGSPAN_HD constexpr index ceil_of(index at) const {
        return at >= range.end ? count() : at <= range.begin ? 0 : ceil_div(at - range.begin, tile);
    }
};

/// The live key tiles of a run of queries, cut from key_range; positions within the document. In device code:
///     auto walk = key_runs<P>(arguments, document, queries, key_range, 64);
///     for (tile_run run; walk.next(run);) …
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr run_walk<key_capacity<P>> key_runs(const typename P::arguments& a, index document, interval queries,
                                                                       interval key_range, index tile) {
    if (queries.empty() || key_range.empty()) return {{}, key_range, tile};
    return {P::keys(a, document, queries), key_range, tile};
}

/// The live query tiles of a run of keys: the transposed walk, for a backward that keeps keys.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr run_walk<query_capacity<P>> query_runs(const typename P::arguments& a, index document, interval keys,
                                                                           interval query_range, index tile) {
    if (keys.empty() || query_range.empty()) return {{}, query_range, tile};
    return {P::queries(a, document, keys), query_range, tile};
}

/// Calls f(tile_run) for each run of live key tiles, in order.
template <pattern P, class F>
constexpr void for_each_run(const typename P::arguments& a, index document, interval queries, interval key_range, index tile, F&& f) {
    auto walk = key_runs<P>(a, document, queries, key_range, tile);
    for (tile_run run{}; walk.next(run);) f(run);
}

/// Calls f(tile_run) for each run of live query tiles, in order.
template <pattern P, class F>
constexpr void for_each_query_run(const typename P::arguments& a, index document, interval keys, interval query_range, index tile, F&& f) {
    auto walk = query_runs<P>(a, document, keys, query_range, tile);
    for (tile_run run{}; walk.next(run);) f(run);
}

}  // namespace longspan
