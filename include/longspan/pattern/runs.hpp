// SPDX-License-Identifier: Apache-2.0
//
// The live tiles of a tile on the other side, as maximal runs of one class, in order: what a kernel walks. The sets of the
// calculus are merged once; then each run costs O(1) and an empty tile nothing at all: O(runs + intervals) for a whole row of
// tiles, 32 bytes per interval of the pattern's capacity.
#pragma once

#include <type_traits>

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Tiles [first, last) of one class: partial or full.
struct tile_run {
    index first = 0;
    index last = 0;
    tile_class kind = tile_class::partial;

    friend constexpr bool operator==(const tile_run&, const tile_run&) = default;
};

/// Walks the live tiles of a range: tile i holds positions [range.begin + i·tile, … + tile), the last cut at range.end. Positions are
/// kept relative to the range: as `int` they cost a kernel half the registers, for ranges shorter than 2^31. InParts: sets end
/// somewhere, and so do the runs.
template <int Capacity, class Position = index, bool InParts = false>
class run_walk {
public:
    constexpr run_walk() = default;
    /// `settled`: tiles before this one are not walked.
    LONGSPAN_HD constexpr run_walk(const any_all<Capacity>& seen, interval range, index tile, index settled = 0, [[maybe_unused]] index until = no_end)
        : length_(static_cast<Position>(range.empty() ? 0 : range.length())), tile_(static_cast<Position>(tile)),
          next_tile_(static_cast<Position>(settled)), any_count_(seen.any.count), all_count_(seen.all.count) {
        const auto within = [&](index at) { return static_cast<Position>(at <= range.begin ? 0 : at >= range.end ? range.length() : at - range.begin); };
        for (int i = 0; i < any_count_ && (Capacity > 1 || i < 1); ++i) any_[i] = {within(seen.any.items[i].begin), within(seen.any.items[i].end)};
        for (int i = 0; i < all_count_ && (Capacity > 1 || i < 1); ++i) all_[i] = {within(seen.all.items[i].begin), within(seen.all.items[i].end)};
        if constexpr (InParts) known_ = floor_of(within(until));
    }

    /// Tiles before this one are walked, or hold nothing.
    LONGSPAN_HD [[nodiscard]] constexpr index settled() const { return next_tile_; }
    /// Whether all tiles are settled, not only those that the sets tell of.
    LONGSPAN_HD [[nodiscard]] constexpr bool done() const { return next_tile_ >= count(); }

    /// The next run; false behind the last.
    LONGSPAN_HD [[nodiscard]] constexpr bool next(tile_run& run) {
        while (any_next_ < any_count_ && next_tile_ * tile_ >= any(any_next_).end) ++any_next_;
        const Position first = any_next_ == any_count_ ? count() : larger(next_tile_, floor_of(any(any_next_).begin));
        if (first >= known()) {
            if constexpr (InParts) next_tile_ = known();
            return false;
        }

        // The next stretch of whole tiles inside one interval of `all`.
        Position whole_first = count(), whole_last = count();
        for (; all_next_ < all_count_; ++all_next_) {
            whole_first = larger(first, ceil_of(all(all_next_).begin));
            whole_last = floor_of(all(all_next_).end);
            if (whole_first < whole_last) break;
            whole_first = count();
        }
        if (whole_first == first) {
            run = {first, whole_last, tile_class::full};
        } else {
            Position last = ceil_of(any(any_next_).end);
            while (Capacity > 1 && last < whole_first && any_next_ + 1 < any_count_ && floor_of(any(any_next_ + 1).begin) <= last) {
                last = ceil_of(any(++any_next_).end);
            }
            run = {first, last < whole_first ? last : whole_first, tile_class::partial};
        }
        if constexpr (InParts) run.last = run.last < known() ? run.last : known();
        next_tile_ = static_cast<Position>(run.last);
        return true;
    }

private:
    struct stretch {
        Position begin = 0, end = 0;  ///< from the range's begin on, cut at its end
    };
    stretch any_[Capacity]{}, all_[Capacity]{};
    Position length_ = 0, tile_ = 1;
    Position next_tile_ = 0;  ///< tiles before this one are settled
    int any_count_ = 0, all_count_ = 0;
    int any_next_ = 0, all_next_ = 0;  ///< the first intervals that may still matter
    struct nothing {};
    std::conditional_t<InParts, Position, nothing> known_{};  ///< tiles before this one are what the sets tell of

    // The only one has no number to be asked by, or a kernel would keep it in memory.
    LONGSPAN_HD constexpr const stretch& any(int i) const { return any_[Capacity == 1 ? 0 : i]; }
    LONGSPAN_HD constexpr const stretch& all(int i) const { return all_[Capacity == 1 ? 0 : i]; }
    LONGSPAN_HD constexpr Position known() const {
        if constexpr (InParts) return known_;
        else return count();
    }

    LONGSPAN_HD static constexpr Position larger(Position a, Position b) { return a > b ? a : b; }
    // Every tile that an interval's end lies behind is touched or whole, however short the last one is.
    LONGSPAN_HD constexpr Position count() const { return ceil_of_tiles(length_); }
    LONGSPAN_HD constexpr Position ceil_of_tiles(Position at) const { return static_cast<Position>((at + tile_ - 1) / tile_); }
    LONGSPAN_HD constexpr Position floor_of(Position at) const { return at == length_ ? count() : static_cast<Position>(at / tile_); }
    LONGSPAN_HD constexpr Position ceil_of(Position at) const { return ceil_of_tiles(at); }
};

/// The live key tiles of a run of queries, cut from key_range; positions within the document. In device code:
///     auto walk = key_runs<P>(arguments, document, queries, key_range, 64);
///     for (tile_run run; walk.next(run);) …
template <pattern P, class Position = index>
LONGSPAN_HD [[nodiscard]] constexpr run_walk<key_capacity<P>, Position> key_runs(const typename P::arguments& a, index document, interval queries,
                                                                                 interval key_range, index tile, index settled = 0) {
    if (queries.empty() || key_range.empty()) return {};
    return {P::keys(a, document, queries), key_range, tile, settled};
}

/// The live query tiles of a run of keys: the transposed walk, for a backward that keeps keys.
template <pattern P, class Position = index>
LONGSPAN_HD [[nodiscard]] constexpr run_walk<query_capacity<P>, Position> query_runs(const typename P::arguments& a, index document, interval keys,
                                                                                     interval query_range, index tile, index settled = 0) {
    if (keys.empty() || query_range.empty()) return {};
    return {P::queries(a, document, keys), query_range, tile, settled};
}

/// The same of a listed pattern, part by part: the next part is looked up where one ends. Forward: key tiles of a run of queries.
template <listed_pattern P, bool Forward, class Position = index>
class listed_walk {
public:
    /// `a` stays where it is for as long as this.
    LONGSPAN_HD constexpr listed_walk(const typename P::arguments& a, index document, interval own, interval range, index tile, index settled = 0)
        : arguments_(&a), document_(document), own_(own), range_(own.empty() ? interval{} : range), tile_(tile),
          part_({}, range_, tile, settled, range_.begin + settled * tile) {}

    LONGSPAN_HD [[nodiscard]] constexpr bool next(tile_run& run) {
        while (!part_.next(run)) {
            if (part_.done()) return false;
            const auto seen = seen_from<P, Forward>(*arguments_, document_, own_, range_.begin + part_.settled() * tile_, tile_);
            part_ = {seen, range_, tile_, part_.settled(), seen.until};
        }
        return true;
    }

private:
    static constexpr int capacity = decltype(seen_from<P, Forward>(typename P::arguments{}, 0, interval{}, 0, 1))::capacity;

    const typename P::arguments* arguments_;
    index document_;
    interval own_, range_;
    index tile_;
    run_walk<capacity, Position, true> part_;
};

/// key_runs or query_runs from tile `settled` on, part by part where the pattern is listed.
template <pattern P, bool Forward, class Position = index>
LONGSPAN_HD [[nodiscard]] constexpr auto runs_from(const typename P::arguments& a, index document, interval own, interval range, index tile, index settled = 0) {
    if constexpr (listed_pattern<P>) return listed_walk<P, Forward, Position>(a, document, own, range, tile, settled);
    else if constexpr (Forward) return key_runs<P, Position>(a, document, own, range, tile, settled);
    else return query_runs<P, Position>(a, document, own, range, tile, settled);
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
