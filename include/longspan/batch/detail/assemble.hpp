// SPDX-License-Identifier: Apache-2.0
//
// Bodies of batch/assemble.hpp.
#pragma once

#include <longspan/batch/assemble.hpp>
#include <longspan/data/detail/grouped.hpp>

namespace longspan {

namespace detail {

/// The piece table: documents, padding in the gaps and at the end, then empty pieces.
inline void fill_table(std::vector<piece>& table, std::span<const planned_piece> pieces, index budget, index max_pieces) {
    table.clear();
    index end = 0;
    for (const planned_piece& p : pieces) {
        expects(p.length >= 1 && p.place.begin >= end && p.place.begin + p.length <= budget, [&] {
            return "The pieces of a batch lie one after another in [0, " + std::to_string(budget) + "); one of length " +
                   std::to_string(p.length) + " begins at " + std::to_string(p.place.begin) + ", behind one that ends at " +
                   std::to_string(end) + ".";
        });
        if (p.place.begin > end) table.push_back({padding_document, 0, end});
        table.push_back(p.place);
        end = p.place.begin + p.length;
    }
    if (end < budget) table.push_back({padding_document, 0, end});
    expects(static_cast<index>(table.size()) <= max_pieces, [&] {
        return "The table of a batch has room for " + std::to_string(max_pieces) + " pieces, padding among them; " +
               std::to_string(table.size()) + " came.";
    });
    table.resize(static_cast<std::size_t>(max_pieces), {padding_document, 0, budget});
}

/// Tokens and targets of one piece.
template <document_source Source>
void read_piece(token_batch& out, const Source& source, const planned_piece& p, std::vector<token_id>& scratch) {
    const auto begin = static_cast<std::size_t>(p.place.begin), length = static_cast<std::size_t>(p.length);
    const auto targets = static_cast<std::size_t>(p.targets());
    scratch.resize(p.ends() ? length : length + 1);
    source.read(p.source, p.first, std::span(scratch));
    const index vocabulary = source.vocabulary();
    for (const token_id id : scratch)
        expects(0 <= id && id < vocabulary, [&] {
            return "A token is an id below the source's vocabulary of " + grouped(vocabulary) + "; " +
                   std::string(source.name(p.source)) + " holds " + std::to_string(id) + ".";
        });
    for (std::size_t k = 0; k < length; ++k) out.tokens[begin + k] = scratch[k];
    for (std::size_t k = 0; k < targets; ++k) out.targets[begin + k] = scratch[k + 1];
    if constexpr (weighted_source<Source>) {
        const auto weights = std::span(out.weights).subspan(begin, targets);
        if (targets > 0) source.weights(p.source, p.first + 1, weights);
        for (const float weight : weights) out.counts.target_weight += static_cast<double>(weight);
    }
}

}  // namespace detail

template <document_source Source>
void assemble(token_batch& out, const Source& source, std::span<const planned_piece> pieces, index budget, index max_pieces) {
    detail::fill_table(out.pieces, pieces, budget, max_pieces);
    out.counts = count_batch(pieces, budget);
    out.tokens.assign(static_cast<std::size_t>(budget), 0);
    out.targets.assign(static_cast<std::size_t>(budget), ignored_target);
    if constexpr (weighted_source<Source>) {
        out.weights.assign(static_cast<std::size_t>(budget), 0.0F);
        out.counts.target_weight = 0;
    } else {
        out.weights.clear();
    }
    std::vector<token_id> scratch;
    for (const planned_piece& p : pieces) detail::read_piece(out, source, p, scratch);
    out.by_id.resize(static_cast<std::size_t>(budget));
    sort_tokens(out.tokens, source.vocabulary(), out.by_id);
}

}  // namespace longspan
