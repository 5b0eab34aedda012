// SPDX-License-Identifier: Apache-2.0
//
// Which tokens lie in which batch, for every epoch: a function of the documents' sizes, the strategy, the context and a seed,
// and of nothing else. No text is read here.
//
// Every token of every document is an input exactly once in an epoch. Pieces are shuffled over the whole corpus, taken in
// windows of 65,536, laid into batches window by window, and the batches of a window are shuffled. A window bounds the time
// until the first batch and the memory of a layout, and costs at most about one half-filled batch. Planning is O(n log n) in
// pieces. Memory: 8 bytes a document, 8 bytes a piece, and 72 bytes for each piece of the current window.
//
// Ids: under split and refuse each piece is a document of its own, with id = the number of pieces before it in the source; it
// begins at position 0. Under carry, id = the document's ordinal in the source, and positions count from the document's start.
#pragma once

#include <algorithm>
#include <span>
#include <string>
#include <vector>

#include <longspan/batch/batch.hpp>
#include <longspan/batch/shuffle.hpp>
#include <longspan/batch/strategy.hpp>
#include <longspan/data/document_source.hpp>

namespace longspan {

/// A run of tokens of one document, and where it lies in its batch.
struct planned_piece {
    index source = 0;  ///< ordinal of the document in its source
    index size = 0;    ///< tokens of the whole document
    index first = 0;   ///< the piece's first token within the document
    index length = 0;  ///< its tokens, ≥ 1
    piece place;       ///< its entry in the batch's table

    [[nodiscard]] bool starts() const { return first == 0; }
    [[nodiscard]] bool ends() const { return first + length == size; }
    /// Tokens with a token after them.
    [[nodiscard]] index targets() const { return ends() ? length - 1 : length; }
};

/// What these pieces, one batch of `budget` tokens, count up to.
[[nodiscard]] batch_counts count_batch(std::span<const planned_piece> pieces, index budget);

/// A walk over the batches of all epochs.
template <batching B>
class batch_plan {
public:
    /// Pieces that are laid out together.
    static constexpr index window = 65536;

    /// Stands at batch 0 of epoch 0. Throws bad_argument if the strategy cannot serve `context`, document_too_long if it
    /// refuses a document, bad_corpus if there is no token at all.
    template <document_source Source>
    batch_plan(const Source& source, index context, std::uint64_t seed);

    [[nodiscard]] index epoch() const { return epoch_; }
    [[nodiscard]] index batch() const { return batch_; }  ///< within the epoch
    [[nodiscard]] index context() const { return context_; }

    /// The pieces of the batch where the walk stands, by increasing begin; valid until the walk moves.
    [[nodiscard]] std::span<const planned_piece> pieces() const;
    /// Goes to the next batch; behind the last of an epoch comes the first of the next.
    void advance();
    /// Goes to a batch of an epoch. Throws bad_argument if the epoch has fewer.
    void seek(index epoch, index batch);
    /// What a whole epoch counts up to. O(n log n); reads no text.
    [[nodiscard]] batch_counts count_epoch(index epoch) const;

private:
    void begin_epoch(index epoch);
    [[nodiscard]] bool next_window();
    void lay_window(std::span<const index> items);
    void lay_carried(std::span<const index> ordinals);
    [[nodiscard]] planned_piece cut(index id) const;
    void close_batch() { ends_.push_back(static_cast<index>(pieces_.size())); }

    index context_;
    std::uint64_t seed_;
    std::vector<index> sizes_;        // [documents]
    std::vector<index> first_piece_;  // [documents + 1] pieces before each document
    std::vector<index> order_;        // ids of pieces (ordinals of documents under carry) in this epoch's order
    index epoch_ = 0, batch_ = 0;
    index window_ = -1;               // ordinal of the current window
    index window_first_ = 0;          // its first batch
    std::vector<planned_piece> pieces_;  // of the current window, batch after batch
    std::vector<index> ends_;            // [batches of the window] end of each batch's pieces
};

}  // namespace longspan

#include <longspan/batch/detail/plan.hpp>
