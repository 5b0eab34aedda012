// SPDX-License-Identifier: Apache-2.0
//
// How documents lie in a batch. A batch is one row of `budget` tokens; its pieces lie end to end from token 0, and the
// unfilled tail is a piece of its own that nothing learns from. Every op that mixes tokens reads this table.
#pragma once

#include <span>

#include <longspan/core/types.hpp>

namespace longspan {

/// A document, or a part of one, as it lies in a batch.
struct piece {
    index document = 0;  ///< id of the document, stable over the run: dropout masks are keyed by it
    index position = 0;  ///< position within the document of the piece's first token
    index begin = 0;     ///< first token of the piece within the batch

    friend constexpr bool operator==(const piece&, const piece&) = default;
};

/// The pieces of a batch of `tokens` tokens: piece i occupies [begin(i), end(i)). Begins never decrease, the first is 0,
/// and the last piece ends at `tokens`. Empty pieces are allowed anywhere.
struct piece_table {
    std::span<const piece> pieces;
    index tokens = 0;

    [[nodiscard]] constexpr index count() const { return static_cast<index>(pieces.size()); }
    [[nodiscard]] constexpr const piece& operator[](index i) const { return pieces[static_cast<std::size_t>(i)]; }
    [[nodiscard]] constexpr index begin(index i) const { return (*this)[i].begin; }
    [[nodiscard]] constexpr index end(index i) const { return i + 1 < count() ? begin(i + 1) : tokens; }
    [[nodiscard]] constexpr index length(index i) const { return end(i) - begin(i); }
};

/// The rows of a matrix as tokens of a batch: [first, first + count) of a table, all of them unless said otherwise.
struct piece_rows {
    piece_table of;
    index first = 0, count = 0;

    constexpr piece_rows() = default;
    // Implicit: a matrix usually holds every token.
    constexpr piece_rows(const piece_table& all) : of(all), count(all.tokens) {}
    constexpr piece_rows(std::span<const piece> pieces, index tokens) : piece_rows(piece_table{pieces, tokens}) {}
    constexpr piece_rows(const piece_table& of_, index first_, index count_) : of(of_), first(first_), count(count_) {}
    /// Whether they are tokens of the table at all.
    [[nodiscard]] constexpr bool valid() const { return first >= 0 && count >= 0 && first <= of.tokens - count; }
};

}  // namespace longspan
