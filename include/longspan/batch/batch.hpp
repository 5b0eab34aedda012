// SPDX-License-Identifier: Apache-2.0
//
// What one micro-batch is: one row of `budget` tokens, whatever the documents were. Shapes are constants of a phase, so every
// array below has the same size in every batch, and a step needs no allocation to receive one.
//
// Pieces lie from token 0 on. What no document fills is a piece of its own: document −1 (`padding_document`), token 0, target
// −1 (`ignored_target`); its activations are finite and nothing learns from them. Behind the last piece the table is filled
// with empty ones that begin at `budget`. Memory: 12 bytes a token (16 with weights), 24 bytes a piece.
#pragma once

#include <string>
#include <vector>

#include <longspan/core/piece.hpp>
#include <longspan/data/byte_tokens.hpp>

namespace longspan {

/// The target of a token from which nothing is learnt.
inline constexpr token_id ignored_target = -1;

/// The document of a piece that is padding.
inline constexpr index padding_document = -1;

/// What lies in a batch, or in many: counts add.
struct batch_counts {
    index batches = 0;
    index tokens = 0;           ///< of documents, padding apart
    index padding = 0;          ///< tokens of no document
    index targets = 0;          ///< tokens with a target: what a loss is divided by
    double target_weight = 0;   ///< sum of the targets' weights; `targets` where a source has none
    index pieces = 0;           ///< of documents, padding and empty ones apart
    index documents = 0;        ///< documents whose first token lies here
    index split_documents = 0;  ///< of these, those that lie in more than one piece

    batch_counts& operator+=(const batch_counts& other);
    friend bool operator==(const batch_counts&, const batch_counts&) = default;

    /// Padding among all tokens, 0 to 1.
    [[nodiscard]] double padding_share() const { return share(padding, tokens + padding); }
    /// Split documents among all, 0 to 1.
    [[nodiscard]] double split_share() const { return share(split_documents, documents); }

private:
    [[nodiscard]] static double share(index part, index whole) {
        return whole > 0 ? static_cast<double>(part) / static_cast<double>(whole) : 0.0;
    }
};

/// "4,021 batches, 8,092,788 tokens, 1.2 % padding; 477 documents, 390 of them (81.8 %) split".
[[nodiscard]] std::string describe(const batch_counts& counts);

/// A micro-batch of constant shape.
struct token_batch {
    std::vector<token_id> tokens;    ///< [budget] ids
    std::vector<token_id> targets;   ///< [budget] the id to predict, or ignored_target
    std::vector<float> weights;      ///< [budget] weight of each target; empty where every target weighs one
    std::vector<piece> pieces;       ///< [max_pieces] the table, padded with empty pieces
    std::vector<std::int32_t> by_id; ///< [budget] indices of tokens, sorted by id, then by index: a gradient of an embedding
                                     ///< adds rows in this order, on every backend and for every number of threads
    batch_counts counts;

    [[nodiscard]] index budget() const { return static_cast<index>(tokens.size()); }
    [[nodiscard]] piece_table table() const { return {pieces, budget()}; }
};

inline batch_counts& batch_counts::operator+=(const batch_counts& other) {
    batches += other.batches;
    tokens += other.tokens;
    padding += other.padding;
    targets += other.targets;
    target_weight += other.target_weight;
    pieces += other.pieces;
    documents += other.documents;
    split_documents += other.split_documents;
    return *this;
}

}  // namespace longspan

#include <longspan/batch/detail/describe.hpp>
