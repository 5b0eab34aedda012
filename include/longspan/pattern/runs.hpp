// SPDX-License-Identifier: Apache-2.0
//
// The live tiles of a tile on the other side, as maximal runs of one class, in order: what a kernel walks. The sets of the
// calculus are merged once; then each run costs O(1), and an empty tile costs nothing at all.
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

namespace detail {

/// Tiles of `tile` positions cut `range` from its begin; the last may be short. Calls f(tile_run) for the live ones.
template <int Capacity, class F>
LONGSPAN_HD constexpr void walk_runs(const any_all<Capacity>& seen, interval range, index tile, F&& f) {
    const index count = ceil_div(range.length() > 0 ? range.length() : 0, tile);
    const auto at_most = [](index a, index b) { return a < b ? a : b; };
    const auto emit = [&](index first, index last, tile_class kind) {
        if (first < last) f(tile_run{first, last, kind});
    };
    index done = 0;  // tiles before this one are settled
    int inner = 0;   // the first interval of `all` that may still matter
    for (int i = 0; i < seen.any.count; ++i) {
        index first = seen.any.items[i].begin <= range.begin ? 0 : (seen.any.items[i].begin - range.begin) / tile;
        if (first < done) first = done;
        index last = seen.any.items[i].end <= range.begin ? 0 : ceil_div(at_most(seen.any.items[i].end, range.end) - range.begin, tile);
        // An interval of `any` that begins in the last tile of this one joins it, so that no tile is named twice.
        while (i + 1 < seen.any.count && last > first && seen.any.items[i + 1].begin < range.begin + last * tile) {
            ++i;
            last = ceil_div(at_most(seen.any.items[i].end, range.end) - range.begin, tile);
        }
        last = at_most(last, count);
        while (first < last) {
            // The next stretch of whole tiles inside one interval of `all`.
            index whole_first = last, whole_last = last;
            for (; inner < seen.all.count; ++inner) {
                const interval all = seen.all.items[inner];
                const index begin = all.begin <= range.begin ? 0 : ceil_div(all.begin - range.begin, tile);
                const index end = all.end >= range.end ? count : all.end <= range.begin ? 0 : (all.end - range.begin) / tile;
                const index from = begin < first ? first : begin;
                if (from >= end) continue;
                if (from < last) {
                    whole_first = from;
                    whole_last = at_most(end, last);
                }
                break;
            }
            emit(first, whole_first, tile_class::partial);
            emit(whole_first, whole_last, tile_class::full);
            first = whole_last;
        }
        if (last > done) done = last;
    }
}

}  // namespace detail

/// The live key tiles of a non-empty run of queries: tile i holds keys [key_range.begin + i·tile, … + tile), the last cut at
/// key_range.end. Positions within the document.
template <pattern P, class F>
LONGSPAN_HD constexpr void for_each_run(const typename P::arguments& a, index document, interval queries, interval key_range, index tile, F&& f) {
    if (queries.empty() || key_range.empty()) return;
    detail::walk_runs(P::keys(a, document, queries), key_range, tile, f);
}

/// The live query tiles of a non-empty run of keys: the transposed walk, for a backward that keeps keys.
template <pattern P, class F>
LONGSPAN_HD constexpr void for_each_query_run(const typename P::arguments& a, index document, interval keys, interval query_range, index tile, F&& f) {
    if (keys.empty() || query_range.empty()) return;
    detail::walk_runs(P::queries(a, document, keys), query_range, tile, f);
}

}  // namespace longspan
