// SPDX-License-Identifier: Apache-2.0
//
// Block-sparse attention from lists known at run time: for each block of queries the key blocks it sees, and for the backward
// the same pairs transposed. The two are compressed rows (offsets, then ids in increasing order), so that a kernel's work is
// O(live blocks) in both directions. All documents of a batch share the lists, in positions within the document; positions
// beyond them see nothing and are seen by none.
//
// Memory: 4 bytes per live block and 8 per block of a side, twice. Hopper's kernels read the lists part by part, whatever their length.
// Elsewhere a tile keeps at most Intervals stretches of blocks; where the lists have more, `any` closes the last gaps and `all` forgets
// the last stretches: correct, and tested element by element.
// Reference: FlexAttention's BlockMask, arXiv:2412.05496.
#pragma once

#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Rows of increasing block ids: row r holds ids[offsets[r]] … ids[offsets[r + 1] − 1].
struct block_rows {
    const index* offsets = nullptr;      ///< [count + 1]
    const std::int32_t* ids = nullptr;   ///< [offsets[count]]
    index count = 0;                     ///< rows

    /// Where in `ids` the first of a row's ids stands that is not below `id`; `low`: those before it are.
    LONGSPAN_HD [[nodiscard]] constexpr index place_of(index row, std::int64_t id, index low) const {
        index high = offsets[row + 1];
        while (low < high) {
            const index middle = low + (high - low) / 2;
            if (ids[middle] < id) low = middle + 1;
            else high = middle;
        }
        return low;
    }
    LONGSPAN_HD [[nodiscard]] constexpr bool sees(index row, std::int64_t id) const {
        if (row < 0 || row >= count) return false;
        const index at = place_of(row, id, offsets[row]);
        return at < offsets[row + 1] && ids[at] == id;
    }
};

/// Run-time values of `block_list`; the arrays are the caller's.
struct block_lists {
    index block = 1;            ///< positions in a block, on both sides
    block_rows keys_of_query;   ///< row: a query block; ids: the key blocks it sees
    block_rows queries_of_key;  ///< row: a key block; ids: the query blocks that see it
};

/// Writes the transposed rows: `offsets` has room for rows + 1 entries, `ids` for as many as `from` has. O(rows + ids).
constexpr block_rows transpose(const block_rows& from, index rows, index* offsets, std::int32_t* ids) {
    for (index r = 0; r <= rows; ++r) offsets[r] = 0;
    const index total = from.count > 0 ? from.offsets[from.count] : 0;
    for (index i = 0; i < total; ++i) ++offsets[from.ids[i] + 1];
    for (index r = 0; r < rows; ++r) offsets[r + 1] += offsets[r];
    for (index r = 0; r < from.count; ++r) {
        for (index i = from.offsets[r]; i < from.offsets[r + 1]; ++i) ids[offsets[from.ids[i]]++] = static_cast<std::int32_t>(r);
    }
    for (index r = rows; r > 0; --r) offsets[r] = offsets[r - 1];
    offsets[0] = 0;
    return {offsets, ids, rows};
}

template <int Intervals>
struct block_list_pattern {
    static_assert(Intervals >= 1, "block_list_of<I>: a tile keeps at least 1 stretch of blocks, so I is at least 1");
    using arguments = block_lists;
    static constexpr int part = 4;  ///< stretches that a kernel holds at once where it walks the lists part by part

    LONGSPAN_HD [[nodiscard]] static constexpr bool contains(const block_lists& a, index, index query, index key) {
        return a.keys_of_query.sees(query / a.block, key / a.block);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<Intervals> keys(const block_lists& a, index, interval queries) {
        return seen(a.keys_of_query, a.block, queries);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr any_all<Intervals> queries(const block_lists& a, index, interval keys) {
        return seen(a.queries_of_key, a.block, keys);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr seen_part<part> keys_from(const block_lists& a, index, interval queries, index from, index tile) {
        return seen_from(a.keys_of_query, a.block, queries, from, tile);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr seen_part<part> queries_from(const block_lists& a, index, interval keys, index from, index tile) {
        return seen_from(a.queries_of_key, a.block, keys, from, tile);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr index next_key(const block_lists& a, index, interval queries, index from) {
        const index first = queries.begin / a.block, behind = ceil_div(queries.end, a.block), id = from / a.block;
        index next = no_end;
        for (index row = first; row < behind && row < a.keys_of_query.count; ++row) {
            const index at = a.keys_of_query.place_of(row, id, a.keys_of_query.offsets[row]);
            if (at == a.keys_of_query.offsets[row + 1]) continue;
            const index found = a.keys_of_query.ids[at] * a.block;
            if (found < next) next = found < from ? from : found;
        }
        return next;
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t key_bits(const block_lists& a, index, index query, index first_key) {
        return bits(a.keys_of_query, query / a.block, a.block, first_key);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint32_t query_bits(const block_lists& a, index, index key, index first_query) {
        return bits(a.queries_of_key, key / a.block, a.block, first_query);
    }

    /// Offsets that increase, ids that increase within a row and lie in range, and two lists that hold the same pairs.
    [[nodiscard]] static constexpr const char* complaint(const block_lists& a, index) {
        if (a.block < 1) return "block_list: a block holds at least 1 position, but block is smaller";
        const char* said = complaint(a.keys_of_query, a.queries_of_key.count);
        if (said == nullptr) said = complaint(a.queries_of_key, a.keys_of_query.count);
        if (said != nullptr) return said;
        if (a.keys_of_query.offsets[a.keys_of_query.count] != a.queries_of_key.offsets[a.queries_of_key.count]) {
            return "block_list: both directions hold the same pairs, but their numbers differ";
        }
        for (index r = 0; r < a.keys_of_query.count; ++r) {
            for (index i = a.keys_of_query.offsets[r]; i < a.keys_of_query.offsets[r + 1]; ++i) {
                if (!a.queries_of_key.sees(a.keys_of_query.ids[i], r)) return "block_list: both directions hold the same pairs, but one lacks a pair";
            }
        }
        return nullptr;
    }

private:
    static constexpr const char* complaint(const block_rows& rows, index others) {
        if (rows.count < 0 || rows.offsets == nullptr) return "block_list: expected offsets of both directions, but none were given";
        if (rows.offsets[0] != 0) return "block_list: the first offset is 0, but another came";
        for (index r = 0; r < rows.count; ++r) {
            if (rows.offsets[r + 1] < rows.offsets[r]) return "block_list: offsets never decrease, but one does";
            if (rows.offsets[r + 1] > rows.offsets[r] && rows.ids == nullptr) return "block_list: expected ids, but none were given";
            for (index i = rows.offsets[r]; i < rows.offsets[r + 1]; ++i) {
                if (rows.ids[i] < 0 || rows.ids[i] >= others) return "block_list: an id names a block that the other direction does not have";
                if (i > rows.offsets[r] && rows.ids[i] <= rows.ids[i - 1]) return "block_list: ids increase within a row, but one does not";
            }
        }
        return nullptr;
    }
    template <overflow Beyond>
    LONGSPAN_HD static constexpr interval_set<Intervals> stretches(const block_rows& rows, index block, index row) {
        interval_set<Intervals> set{};
        for (index i = rows.offsets[row]; i < rows.offsets[row + 1]; ++i) {
            set.template append<Beyond>({rows.ids[i] * block, (rows.ids[i] + index{1}) * block});
        }
        return set;
    }
    LONGSPAN_HD static constexpr any_all<Intervals> seen(const block_rows& rows, index block, interval run) {
        any_all<Intervals> result{};
        const index first = run.begin / block, behind = ceil_div(run.end, block);
        for (index row = first; row < behind && row < rows.count; ++row) {
            const auto any = stretches<overflow::join>(rows, block, row);
            const auto all = stretches<overflow::drop>(rows, block, row);
            result.any = row == first ? any : unite<Intervals, overflow::join>(result.any, any);
            result.all = row == first ? all : intersect<Intervals, overflow::drop>(result.all, all);
        }
        if (behind > rows.count) result.all.count = 0;
        return result;
    }
    /// Block by block, each the next that any row sees: O(rows · log(ids)) for each, O(1) where the run lies in one block.
    LONGSPAN_HD static constexpr seen_part<part> seen_from(const block_rows& rows, index block, interval run, index from, index tile) {
        seen_part<part> seen{};
        const index first = run.begin / block, behind = ceil_div(run.end, block), last = behind < rows.count ? behind : rows.count;
        if (first >= last) return seen;
        if (behind - first == 1) {  // any and all are the same row
            const index end = rows.offsets[first + 1];
            for (index at = rows.place_of(first, from > 0 ? from / block : 0, rows.offsets[first]); at < end; ++at) {
                const interval positions{rows.ids[at] * block, (rows.ids[at] + index{1}) * block};
                if (!enter(seen, positions, true, from + tile)) break;
            }
            return seen;
        }
        index low = rows.offsets[first];  // of the first row
        for (auto id = static_cast<std::int32_t>(from > 0 ? from / block : 0);;) {
            std::int32_t next = -1, alike = 0;
            for (index row = first; row < last; ++row) {
                const bool known = row == first && low < rows.offsets[row + 1] && rows.ids[low] >= id;
                const index at = known ? low : rows.place_of(row, id, row == first ? low : rows.offsets[row]);
                if (row == first) low = at;
                if (at == rows.offsets[row + 1]) continue;
                const std::int32_t found = rows.ids[at];
                alike = next < 0 || found < next ? 1 : found == next ? alike + 1 : alike;
                next = next < 0 || found < next ? found : next;
            }
            if (next < 0) return seen;
            const interval positions{next * block, (next + index{1}) * block};
            const bool all = alike == behind - first;
            if (!enter(seen, positions, all, from + tile)) return seen;
            id = next + 1;
        }
    }
    /// Enters the next block; false where the part ends before it, which it does not do before `least`.
    LONGSPAN_HD static constexpr bool enter(seen_part<part>& seen, interval positions, bool all, index least) {
        if (positions.begin >= least && (full(seen.any, positions) || (all && full(seen.all, positions)))) {
            seen.until = positions.begin;
            return false;
        }
        seen.any.template append<overflow::join>(positions);
        if (all) seen.all.template append<overflow::drop>(positions);
        return true;
    }
    /// Whether an interval behind the others has no room.
    LONGSPAN_HD static constexpr bool full(const interval_set<part>& set, interval next) {
        return set.count == part && next.begin > set.items[part - 1].end;
    }
    LONGSPAN_HD static constexpr std::uint32_t bits(const block_rows& rows, index row, index block, index first) {
        std::uint32_t word = 0;
        for (index id = floor_div(first, block); id * block < first + 32; ++id) {
            if (rows.sees(row, id)) word |= bits_of({id * block, (id + 1) * block}, first);
        }
        return word;
    }
};

template <int Intervals>
inline constexpr block_list_pattern<Intervals> block_list_of{};
inline constexpr block_list_pattern<16> block_list{};

static_assert(pattern<block_list_pattern<1>>);

}  // namespace longspan
