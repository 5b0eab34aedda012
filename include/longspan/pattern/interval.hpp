// SPDX-License-Identifier: Apache-2.0
//
// Sets of positions as sorted, disjoint, half-open intervals of fixed capacity: the arithmetic behind tile classes. A pattern
// says of a run of queries which keys *any* of them sees and which keys *all* of them see; a key tile outside `any` is empty,
// inside `all` full, else partial. Union and intersection merge two sorted lists: O(intervals), no tables, 16 bytes an interval.
#pragma once

#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan {

/// Positions [begin, end).
struct interval {
    index begin = 0;
    index end = 0;

    LONGSPAN_HD [[nodiscard]] constexpr bool empty() const { return end <= begin; }
    LONGSPAN_HD [[nodiscard]] constexpr index length() const { return end - begin; }
    friend constexpr bool operator==(const interval&, const interval&) = default;
};

/// Behind the last position that any document can have.
inline constexpr index no_end = index{1} << 62;
inline constexpr interval everywhere{0, no_end};

/// The part of a within b; may be empty.
LONGSPAN_HD [[nodiscard]] constexpr interval overlap(interval a, interval b) {
    return {a.begin > b.begin ? a.begin : b.begin, a.end < b.end ? a.end : b.end};
}

/// What a set does with an interval beyond its capacity, which only run-time lists can reach.
enum class overflow : bool {
    join,  ///< the last interval grows over the gap: a superset, as `any` may be
    drop   ///< the interval is left out: a subset, as `all` may be
};

/// At most Capacity disjoint, non-empty intervals, sorted, not touching one another.
template <int Capacity>
struct interval_set {
    static_assert(Capacity >= 1, "longspan: an interval_set has room for at least 1 interval");
    static constexpr int capacity = Capacity;

    interval items[Capacity];
    int count = 0;

    /// Appends an interval that begins at or behind the last one's begin; joins it to the last where they touch. Negative
    /// positions are cut off.
    template <overflow Beyond = overflow::join>
    LONGSPAN_HD constexpr void append(interval next) {
        if (next.begin < 0) next.begin = 0;
        if (next.empty()) return;
        const bool touches = count > 0 && next.begin <= items[count - 1].end;
        if (touches || (Beyond == overflow::join && count == Capacity)) {
            if (next.end > items[count - 1].end) items[count - 1].end = next.end;
        } else if (count < Capacity) {
            items[count++] = next;
        }
    }
    LONGSPAN_HD [[nodiscard]] constexpr bool contains(index position) const {
        for (int i = 0; i < count; ++i) {
            if (position >= items[i].begin && position < items[i].end) return true;
        }
        return false;
    }
};

/// A set of one interval, or of none if it is empty.
LONGSPAN_HD [[nodiscard]] constexpr interval_set<1> just(interval only) {
    interval_set<1> set{};
    set.append(only);
    return set;
}

/// a ∪ b, in a set of Capacity intervals: by default one that cannot overflow.
template <int Capacity = 0, overflow Beyond = overflow::join, int A, int B>
LONGSPAN_HD [[nodiscard]] constexpr auto unite(const interval_set<A>& a, const interval_set<B>& b) {
    interval_set<(Capacity > 0 ? Capacity : A + B)> result{};
    int i = 0, j = 0;
    while (i < a.count || j < b.count) {
        const bool from_a = j == b.count || (i < a.count && a.items[i].begin <= b.items[j].begin);
        result.template append<Beyond>(from_a ? a.items[i++] : b.items[j++]);
    }
    return result;
}

/// a ∩ b, in a set of Capacity intervals: by default one that cannot overflow.
template <int Capacity = 0, overflow Beyond = overflow::join, int A, int B>
LONGSPAN_HD [[nodiscard]] constexpr auto intersect(const interval_set<A>& a, const interval_set<B>& b) {
    interval_set<(Capacity > 0 ? Capacity : A + B - 1)> result{};
    int i = 0, j = 0;
    while (i < a.count && j < b.count) {
        result.template append<Beyond>(overlap(a.items[i], b.items[j]));
        if (a.items[i].end < b.items[j].end) ++i;
        else ++j;
    }
    return result;
}

/// What any, and what all, of a run of positions on the other side see. `any` may be too large and `all` too small, never the
/// other way: then a tile is visited or tested without need.
template <int Capacity>
struct any_all {
    static constexpr int capacity = Capacity;
    interval_set<Capacity> any, all;
};

/// The beginning of an any_all that is too long to be held at once: what is seen of positions before `until`, from where it was asked for.
template <int Capacity>
struct seen_part : any_all<Capacity> {
    index until = no_end;
};

/// Bits [begin, end) of a word that stands for positions first … first + 31.
LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t bits_of(interval positions, index first) {
    const auto below = [](index n) { return n <= 0 ? 0u : n >= 32 ? ~0u : (1u << n) - 1u; };
    return below(positions.end - first) & ~below(positions.begin - first);
}

}  // namespace longspan
