// SPDX-License-Identifier: Apache-2.0
//
// The truth about a packed batch, element by element, and how the library's walks over its tiles fare against it.
#pragma once

#include <vector>

#include "checker.hpp"

namespace longspan::checker {

/// [tokens, tokens]: whether each token sees each other one.
template <pattern P>
std::vector<unsigned char> truth_of(const typename P::arguments& a, const piece_list& batch) {
    std::vector<unsigned char> truth(static_cast<std::size_t>(batch.tokens * batch.tokens));
    for (index p = 0; p < batch.count; ++p) {
        const interval extent = batch.extent(p);
        for (index q = extent.begin; q < extent.end; ++q) {
            for (index k = extent.begin; k < extent.end; ++k) {
                truth[static_cast<std::size_t>(q * batch.tokens + k)] = P::contains(a, p, q + batch.shift(p), k + batch.shift(p)) ? 1 : 0;
            }
        }
    }
    return truth;
}

// How many elements of each tile are seen.
struct tile_counts {
    index tokens, query_tile, key_tile, rows, columns;
    std::vector<index> seen_in;

    tile_counts(const std::vector<unsigned char>& truth, index tokens_, index query_tile_, index key_tile_)
        : tokens(tokens_), query_tile(query_tile_), key_tile(key_tile_), rows(ceil_div(tokens, query_tile)),
          columns(ceil_div(tokens, key_tile)), seen_in(static_cast<std::size_t>(rows * columns)) {
        for (index q = 0; q < tokens; ++q) {
            for (index k = 0; k < tokens; ++k) {
                seen_in[static_cast<std::size_t>(q / query_tile * columns + k / key_tile)] += truth[static_cast<std::size_t>(q * tokens + k)];
            }
        }
    }
    [[nodiscard]] interval cut(index i, index tile) const { return overlap({i * tile, (i + 1) * tile}, {0, tokens}); }
    [[nodiscard]] index seen(index r, index c) const { return seen_in[static_cast<std::size_t>(r * columns + c)]; }
    [[nodiscard]] index size(index r, index c) const { return cut(r, query_tile).length() * cut(c, key_tile).length(); }

    [[nodiscard]] tally check_row(index r, const std::vector<tile_run>& runs) const {
        return check_runs(runs, columns, [&](index c) { return seen(r, c); }, [&](index c) { return size(r, c); });
    }
    [[nodiscard]] tally check_column(index c, const std::vector<tile_run>& runs) const {
        return check_runs(runs, rows, [&](index r) { return seen(r, c); }, [&](index r) { return size(r, c); });
    }
};

// Every tile of a batch, forward and backward, and each one's class asked for alone.
template <pattern P>
tally check_batch(const typename P::arguments& a, const piece_list& batch, const std::vector<unsigned char>& truth, index query_tile, index key_tile) {
    const tile_counts tiles(truth, batch.tokens, query_tile, key_tile);
    tally total;
    std::vector<tile_run> runs;
    const auto keep = [&](tile_run run) { runs.push_back(run); };
    for (index r = 0; r < tiles.rows; ++r) {
        runs.clear();
        for_each_run<P>(a, batch, tiles.cut(r, query_tile), key_tile, keep);
        total += tiles.check_row(r, runs);
        std::size_t at = 0;
        for (index c = 0; c < tiles.columns; ++c) {
            while (at < runs.size() && runs[at].last <= c) ++at;
            const tile_class kind = at < runs.size() && runs[at].first <= c ? runs[at].kind : tile_class::empty;
            if (classify<P>(a, batch, tiles.cut(r, query_tile), tiles.cut(c, key_tile)) != kind) ++total.disorder;
        }
    }
    for (index c = 0; c < tiles.columns; ++c) {
        runs.clear();
        for_each_query_run<P>(a, batch, tiles.cut(c, key_tile), query_tile, keep);
        total += tiles.check_column(c, runs);
    }
    return total;
}

}  // namespace longspan::checker
