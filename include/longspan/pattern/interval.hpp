// SPDX-License-Identifier: Apache-2.0
//
// Sets of positions as sorted, disjoint, half-open intervals of fixed capacity: the arithmetic behind tile classes. A pattern
// says of a run of queries which keys *any* of them sees and which keys *all* of them see; a key tile outside `any` is empty,
// inside `all` full, else partial. Union and intersection merge two sorted lists: O(intervals), in registers, no tables.
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

/// At most Capacity disjoint, non-empty intervals, sorted, not touching one another.
template <int Capacity>
struct interval_set {
    static_assert(Capacity >= 0);
    static constexpr int capacity = Capacity;

    interval items[Capacity > 0 ? Capacity : 1];
    int count = 0;

    /// Appends an interval that begins at or behind the last one's begin; joins it to the last where they touch. Negative
    /// positions are cut off. Beyond the capacity the last interval grows over the gap, so the set is then a superset.
    LONGSPAN_HD constexpr void append(interval next) {
        if (next.begin < 0) next.begin = 0;
        if (next.empty()) return;
        if (count > 0 && (next.begin <= items[count - 1].end || count == Capacity)) {
            if (next.end > items[count - 1].end) items[count - 1].end = next.end;
        } else {
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

/// A set of one interval.
LONGSPAN_HD [[nodiscard]] constexpr interval_set<1> just(interval only) {
    interval_set<1> set{};
    set.append(only);
    return set;
}

template <int A, int B>
LONGSPAN_HD [[nodiscard]] constexpr interval_set<A + B> unite(const interval_set<A>& a, const interval_set<B>& b) {
    interval_set<A + B> result{};
    int i = 0, j = 0;
    while (i < a.count || j < b.count) {
        const bool from_a = j == b.count || (i < a.count && a.items[i].begin <= b.items[j].begin);
        result.append(from_a ? a.items[i++] : b.items[j++]);
    }
    return result;
}

template <int A, int B>
LONGSPAN_HD [[nodiscard]] constexpr interval_set<(A + B > 0 ? A + B - 1 : 0)> intersect(const interval_set<A>& a, const interval_set<B>& b) {
    interval_set<(A + B > 0 ? A + B - 1 : 0)> result{};
    int i = 0, j = 0;
    while (i < a.count && j < b.count) {
        const interval x = a.items[i], y = b.items[j];
        result.append({x.begin > y.begin ? x.begin : y.begin, x.end < y.end ? x.end : y.end});
        if (x.end < y.end) ++i;
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

/// Bits [begin, end) of a word that stands for positions first … first + 31.
LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t bits_of(interval positions, index first) {
    const auto below = [](index n) { return n <= 0 ? 0u : n >= 32 ? ~0u : (1u << n) - 1u; };
    return below(positions.end - first) & ~below(positions.begin - first);
}

}  // namespace longspan
