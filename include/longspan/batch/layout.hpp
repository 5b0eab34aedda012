// SPDX-License-Identifier: Apache-2.0
//
// Filling token budgets: given the lengths of some pieces, which batch does each go to, and where does it begin? Three answers.
//
//   packed    best-fit decreasing: longest first, each into the fullest batch that still holds it (at most 11/9 of the least
//             possible number of batches, plus a constant; Johnson et al., SIAM J. Comput. 3, 1974). The least padding.
//   bucketed  pieces of a batch have lengths within a factor of two of each other: a batch is as wide as it is uniform.
//   padded    one piece per row of `context` tokens, as in most trainers; rows of a batch are budget / context.
//
// All take O(n log n) for n pieces, and are functions of the lengths alone. A batch takes at most max_pieces − 1 pieces of
// documents, because its unfilled tail is a piece too. Reference for packing by best fit: Krell et al., arXiv:2107.02027.
#pragma once

#include <algorithm>
#include <set>
#include <span>
#include <utility>
#include <vector>

#include <longspan/core/types.hpp>

namespace longspan {

/// Where one of the pieces that were to be laid out lies: its ordinal among them, and its first token in its batch.
struct placement {
    index item = 0;
    index begin = 0;

    friend bool operator==(const placement&, const placement&) = default;
};

/// Placements of one batch, by increasing begin; and of many.
using batch_placements = std::vector<placement>;
using batch_layout = std::vector<batch_placements>;

/// Best-fit decreasing. Every length is in [1, budget]; pieces of equal length keep their order.
[[nodiscard]] inline batch_layout lay_packed(std::span<const index> lengths, index budget, index max_pieces) {
    std::vector<index> decreasing(lengths.size());
    for (std::size_t i = 0; i < decreasing.size(); ++i) decreasing[i] = static_cast<index>(i);
    const auto length = [&](index item) { return lengths[static_cast<std::size_t>(item)]; };
    std::sort(decreasing.begin(), decreasing.end(),
              [&](index a, index b) { return length(a) != length(b) ? length(a) > length(b) : a < b; });

    batch_layout batches;
    std::set<std::pair<index, index>> open;  // (tokens left, batch)
    for (const index item : decreasing) {
        const auto fit = open.lower_bound({length(item), 0});
        const bool fresh = fit == open.end();
        const auto [left, at] = fresh ? std::pair{budget, static_cast<index>(batches.size())} : *fit;
        if (fresh) batches.emplace_back();
        else open.erase(fit);
        batch_placements& placed = batches[static_cast<std::size_t>(at)];
        placed.push_back({item, budget - left});
        if (left > length(item) && static_cast<index>(placed.size()) + 1 < max_pieces) open.insert({left - length(item), at});
    }
    return batches;
}

/// Pieces with lengths in (2^(k−1), 2^k] share batches, in their order, end to end; a batch is closed when the next does not fit.
[[nodiscard]] inline batch_layout lay_bucketed(std::span<const index> lengths, index budget, index max_pieces) {
    struct bucket {
        index batch = -1, filled = 0;
    };
    batch_layout batches;
    std::vector<bucket> buckets(64);
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        std::size_t k = 0;
        while ((index{1} << k) < lengths[i]) ++k;
        bucket& b = buckets[k];
        const bool room = b.batch >= 0 && b.filled + lengths[i] <= budget &&
                          static_cast<index>(batches[static_cast<std::size_t>(b.batch)].size()) + 1 < max_pieces;
        if (!room) {
            b = {static_cast<index>(batches.size()), 0};
            batches.emplace_back();
        }
        batches[static_cast<std::size_t>(b.batch)].push_back({static_cast<index>(i), b.filled});
        b.filled += lengths[i];
    }
    return batches;
}

/// One piece per row of `row` tokens, budget / row rows a batch, in their order. Every length is in [1, row].
[[nodiscard]] inline batch_layout lay_padded(std::span<const index> lengths, index budget, index row) {
    batch_layout batches;
    const index rows = budget / row;
    for (std::size_t i = 0; i < lengths.size(); ++i) {
        const index at = static_cast<index>(i) % rows;
        if (at == 0) batches.emplace_back();
        batches.back().push_back({static_cast<index>(i), at * row});
    }
    return batches;
}

}  // namespace longspan
