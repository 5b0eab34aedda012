// SPDX-License-Identifier: Apache-2.0
//
// A pattern over a packed batch. Tiles are cut from the batch, positions count within documents: a tile may span several pieces,
// and a token sees only keys of its own. What any and all of a run of tokens see is then one stretch of intervals per piece,
// walked piece by piece: O(live runs + pieces in the tile), after one binary search. Nothing is stored per token or per tile.
//
// Reference: Krell et al., "Efficient sequence packing without cross-contamination", arXiv:2107.02027.
#pragma once

#include <longspan/core/piece.hpp>
#include <longspan/pattern/runs.hpp>

namespace longspan {

/// A piece_table as device code takes it: the same pieces, without the span.
struct piece_list {
    const piece* pieces = nullptr;
    index count = 0;
    index tokens = 0;

    constexpr piece_list() = default;
    LONGSPAN_HD constexpr piece_list(const piece* pieces_, index count_, index tokens_) : pieces(pieces_), count(count_), tokens(tokens_) {}
    constexpr piece_list(const piece_table& table) : piece_list(table.pieces.data(), table.count(), table.tokens) {}

    LONGSPAN_HD [[nodiscard]] constexpr interval extent(index i) const {
        return {pieces[i].begin, i + 1 < count ? pieces[i + 1].begin : tokens};
    }
    /// What to add to a token of piece i to get its position within the document.
    LONGSPAN_HD [[nodiscard]] constexpr index shift(index i) const { return pieces[i].position - pieces[i].begin; }

    /// The piece that holds a token of the batch; empty pieces hold none.
    LONGSPAN_HD [[nodiscard]] constexpr index piece_of(index token) const {
        index low = 0, high = count;  // the last piece that begins at or before the token is in [low, high)
        while (high - low > 1) {
            const index middle = low + (high - low) / 2;
            if (pieces[middle].begin <= token) low = middle;
            else high = middle;
        }
        return low;
    }
};

namespace detail {

LONGSPAN_HD constexpr interval shifted(interval x, index by) { return {x.begin + by, x.end + by}; }

/// Sets over positions as sets over the tokens of one piece.
template <int Capacity>
LONGSPAN_HD constexpr interval_set<Capacity> to_tokens(const interval_set<Capacity>& positions, index shift, interval extent) {
    interval_set<Capacity> tokens{};
    for (int i = 0; i < positions.count; ++i) tokens.append(overlap(shifted(positions.items[i], -shift), extent));
    return tokens;
}

/// Which side of a pattern a walk looks from.
enum class side : bool { queries, keys };

}  // namespace detail

/// Walks the live tiles of a batch for a run of its tokens: tile i holds tokens [i·tile, … + tile). From key_runs or query_runs.
template <pattern P, detail::side From>
struct batch_walk {
    static constexpr int capacity = From == detail::side::queries ? key_capacity<P> : query_capacity<P>;

    const typename P::arguments* arguments;
    piece_list batch;
    interval run;             ///< the tokens that look
    index tile;
    index piece_next = 0;     ///< pieces before this one are walked or being walked
    bool alone = false;       ///< all of `run` lies in one piece
    run_walk<capacity> walk;  ///< through the piece before piece_next
    tile_run pending{};       ///< found, but the next piece may still prolong it

    /// The next run; false behind the last.
    LONGSPAN_HD [[nodiscard]] constexpr bool next(tile_run& out) {
        for (tile_run found{}; find(found); pending = found) {
            if (pending.first == pending.last) continue;
            if (found.first == pending.last && found.kind == pending.kind) {
                found.first = pending.first;
                continue;
            }
            out = pending;
            pending = found;
            return true;
        }
        out = pending;
        pending.first = pending.last;
        return out.first < out.last;
    }

private:
    LONGSPAN_HD constexpr bool find(tile_run& found) {
        while (!walk.next(found)) {
            if (piece_next == batch.count || batch.extent(piece_next).begin >= run.end) return false;
            const index settled = walk.settled();  // the tile that two documents share is named already
            walk = run_walk<capacity>(seen_by(piece_next++), {0, batch.tokens}, tile, settled);
        }
        return true;
    }
    LONGSPAN_HD constexpr any_all<capacity> seen_by(index p) const {
        const interval part = overlap(run, batch.extent(p));
        if (part.empty()) return {};
        any_all<capacity> seen{};
        if constexpr (From == detail::side::queries) seen = P::keys(*arguments, p, detail::shifted(part, batch.shift(p)));
        else seen = P::queries(*arguments, p, detail::shifted(part, batch.shift(p)));
        seen.any = detail::to_tokens(seen.any, batch.shift(p), batch.extent(p));
        // Tokens of two documents never see one key both.
        if (alone) seen.all = detail::to_tokens(seen.all, batch.shift(p), batch.extent(p));
        else seen.all.count = 0;
        return seen;
    }
};

namespace detail {

template <pattern P, side From>
LONGSPAN_HD constexpr batch_walk<P, From> walk_batch(const typename P::arguments& a, const piece_list& batch, interval run, index tile) {
    run = overlap(run, {0, batch.tokens});
    if (run.empty()) return {&a, batch, run, tile, batch.count, false, {}};
    const index first = batch.piece_of(run.begin);
    return {&a, batch, run, tile, first, run.end <= batch.extent(first).end, {}};
}

}  // namespace detail

/// The live key tiles of a run of a batch's tokens. The arguments must outlive the walk.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr auto key_runs(const typename P::arguments& a, const piece_list& batch, interval queries, index tile) {
    return detail::walk_batch<P, detail::side::queries>(a, batch, queries, tile);
}

/// The live query tiles of a run of a batch's tokens taken as keys. The arguments must outlive the walk.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr auto query_runs(const typename P::arguments& a, const piece_list& batch, interval keys, index tile) {
    return detail::walk_batch<P, detail::side::keys>(a, batch, keys, tile);
}

/// Calls f(tile_run) for each run of live key tiles, in order.
template <pattern P, class F>
constexpr void for_each_run(const typename P::arguments& a, const piece_list& batch, interval queries, index tile, F&& f) {
    auto walk = key_runs<P>(a, batch, queries, tile);
    for (tile_run run{}; walk.next(run);) f(run);
}

/// Calls f(tile_run) for each run of live query tiles, in order.
template <pattern P, class F>
constexpr void for_each_query_run(const typename P::arguments& a, const piece_list& batch, interval keys, index tile, F&& f) {
    auto walk = query_runs<P>(a, batch, keys, tile);
    for (tile_run run{}; walk.next(run);) f(run);
}

/// Whether a token of the batch sees another.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr bool contains(const typename P::arguments& a, const piece_list& batch, index query, index key) {
    const index p = batch.piece_of(query), shift = batch.shift(p);
    return p == batch.piece_of(key) && P::contains(a, p, query + shift, key + shift);
}

/// Bit i: token `query` sees token first_key + i. Bits behind the end of its document are 0.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t key_bits(const typename P::arguments& a, const piece_list& batch, index query, index first_key) {
    const index p = batch.piece_of(query), shift = batch.shift(p);
    return P::key_bits(a, p, query + shift, first_key + shift) & bits_of(batch.extent(p), first_key);
}

/// Bit i: token first_query + i sees token `key`.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t query_bits(const typename P::arguments& a, const piece_list& batch, index key, index first_query) {
    const index p = batch.piece_of(key), shift = batch.shift(p);
    return P::query_bits(a, p, key + shift, first_query + shift) & bits_of(batch.extent(p), first_query);
}

/// The class of queries × keys, both runs of the batch's tokens.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr tile_class classify(const typename P::arguments& a, const piece_list& batch, interval queries, interval keys) {
    if (queries.empty() || keys.empty()) return tile_class::empty;
    const index first = batch.piece_of(queries.begin);
    const bool alone = overlap(queries, batch.extent(first)) == queries && overlap(keys, batch.extent(first)) == keys;
    tile_class kind = tile_class::empty;
    for (index p = first; p < batch.count && batch.extent(p).begin < queries.end; ++p) {
        const interval q = overlap(queries, batch.extent(p)), k = overlap(keys, batch.extent(p));
        if (q.empty() || k.empty()) continue;
        const tile_class here = classify<P>(a, p, detail::shifted(q, batch.shift(p)), detail::shifted(k, batch.shift(p)));
        if (here != tile_class::empty) kind = alone ? here : tile_class::partial;
    }
    return kind;
}

}  // namespace longspan
