// SPDX-License-Identifier: Apache-2.0
//
// The batching axis of a configuration, as values: how documents fill the token budget, what happens to one longer than the
// context, and how many micro-batches make a step.
//
//   static constexpr auto batch = ls::packed<8192>;                        // best-fit decreasing, long documents split
//   static constexpr auto batch = ls::bucketed<8192>.refuse();             // by length; a long document is an error
//   static constexpr auto batch = ls::padded<8192>.accumulate<4>();        // one document a row; 4 micro-batches a step
//   static constexpr auto batch = ls::packed<8192>.pieces<1024>();         // room for many short documents
//   static constexpr auto batch = ls::packed<8192>.carry();                // a document goes on in its next piece
//   static constexpr auto batch = ls::packed<8192>.tokens<16384>();        // the same strategy at another budget
//
// A document is never cut silently: `split` (the default) is counted and reported, `refuse` throws document_too_long.
#pragma once

#include <concepts>

#include <longspan/batch/layout.hpp>
#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

/// What happens to a document longer than the context.
enum class long_documents {
    split,   ///< cut every `context` tokens; each part is a document of its own, at position 0, with an id of its own
    refuse,  ///< throws document_too_long before the first batch
    carry,   ///< documents lie end to end, cut at `context` and at a batch's end; parts keep the document's id and positions,
             ///< and follow each other in order, for layers that carry a state from one to the next
};

/// A document is longer than the context, and the batching strategy refuses those.
struct document_too_long : bad_corpus {
    using bad_corpus::bad_corpus;
};

/// How pieces fill a budget (see batch/layout.hpp).
enum class filling { packed, bucketed, padded };

/// A strategy, as a type: tokens of a micro-batch, entries of its piece table, micro-batches of a step, and how pieces of given
/// lengths, each in [1, context], are laid into batches.
template <class B>
concept batching = requires(std::span<const index> lengths, index context) {
    { B::budget } -> std::convertible_to<index>;
    { B::max_pieces } -> std::convertible_to<index>;
    { B::micro_batches } -> std::convertible_to<index>;
    { B::when_long } -> std::convertible_to<long_documents>;
    { B::check(context) };  // throws bad_argument if this strategy cannot serve this context
    { B::lay(lengths, context) } -> std::same_as<batch_layout>;
};

/// One piece for every 64 tokens of the budget: for shorter documents the table fills before the budget does; say `.pieces<N>()`.
[[nodiscard]] constexpr index default_max_pieces(index budget) { return ceil_div(budget, 64) + 2; }

/// The strategies of longspan. Users compose the values below.
template <filling Filling, index Budget, long_documents WhenLong = long_documents::split,
          index MaxPieces = default_max_pieces(Budget), index MicroBatches = 1>
struct batching_strategy {
    static_assert(Budget >= 1, "longspan: the token budget of a batch is at least 1.");
    static_assert(MaxPieces >= 2, "longspan: a batch needs room for at least 2 pieces, a document and its unfilled tail.");
    static_assert(MicroBatches >= 1, "longspan: a step accumulates over at least 1 micro-batch.");
    static_assert(WhenLong != long_documents::carry || Filling == filling::packed,
                  "longspan: carry() lays documents end to end, which is a way of packing; use it with packed<Budget>.");

    static constexpr index budget = Budget;
    static constexpr index max_pieces = MaxPieces;
    static constexpr index micro_batches = MicroBatches;
    static constexpr long_documents when_long = WhenLong;
    static constexpr filling fills = Filling;

    [[nodiscard]] static consteval auto split() { return with<long_documents::split, MaxPieces, MicroBatches>{}; }
    [[nodiscard]] static consteval auto refuse() { return with<long_documents::refuse, MaxPieces, MicroBatches>{}; }
    [[nodiscard]] static consteval auto carry() { return with<long_documents::carry, MaxPieces, MicroBatches>{}; }
    /// Entries of the piece table.
    template <index N>
    [[nodiscard]] static consteval auto pieces() { return with<WhenLong, N, MicroBatches>{}; }
    /// The same for another budget; the piece table grows in proportion.
    template <index N>
    [[nodiscard]] static consteval auto tokens() { return batching_strategy<Filling, N, WhenLong, pieces_for(N), MicroBatches>{}; }
    [[nodiscard]] static constexpr index pieces_for(index tokens) {
        // A padded row takes two pieces however long it is, so what served so many rows grows with them.
        if (Filling != filling::padded && MaxPieces == default_max_pieces(Budget)) return default_max_pieces(tokens);
        const index pieces = ceil_div(MaxPieces * tokens, Budget);
        return pieces > 2 ? pieces : 2;
    }
    /// Micro-batches of a step; gradients add up over them, and are divided once, by the targets of all.
    template <index N>
    [[nodiscard]] static consteval auto accumulate() { return with<WhenLong, MaxPieces, N>{}; }

    static constexpr void check(index context);
    [[nodiscard]] static batch_layout lay(std::span<const index> lengths, index context) {
        if constexpr (Filling == filling::packed) return lay_packed(lengths, Budget, MaxPieces);
        else if constexpr (Filling == filling::bucketed) return lay_bucketed(lengths, Budget, MaxPieces);
        else return lay_padded(lengths, Budget, context);
    }

    friend constexpr bool operator==(batching_strategy, batching_strategy) = default;

private:
    template <long_documents L, index P, index M>
    using with = batching_strategy<Filling, Budget, L, P, M>;
};

/// Best-fit decreasing into `Budget` tokens.
template <index Budget>
inline constexpr batching_strategy<filling::packed, Budget> packed{};

/// Documents of similar length share a batch of `Budget` tokens.
template <index Budget>
inline constexpr batching_strategy<filling::bucketed, Budget> bucketed{};

/// One document per row of `context` tokens, Budget / context rows.
template <index Budget>
inline constexpr batching_strategy<filling::padded, Budget> padded{};

template <filling Filling, index Budget, long_documents WhenLong, index MaxPieces, index MicroBatches>
constexpr void batching_strategy<Filling, Budget, WhenLong, MaxPieces, MicroBatches>::check(index context) {
    expects(context >= 1, [&] { return "The context is at least 1 token; it is " + std::to_string(context) + "."; });
    expects(Budget >= context, [&] {
        return "The token budget of a batch holds at least one context; the budget is " + std::to_string(Budget) +
               " tokens, the context " + std::to_string(context) + ".";
    });
    if constexpr (Filling == filling::padded) {
        expects(Budget % context == 0, [&] {
            return "A padded batch is whole rows of one context each; the budget of " + std::to_string(Budget) +
                   " tokens is no multiple of the context, " + std::to_string(context) + ".";
        });
        expects(2 * (Budget / context) <= MaxPieces, [&] {
            return "A padded batch of " + std::to_string(Budget / context) + " rows needs " +
                   std::to_string(2 * (Budget / context)) + " pieces, a document and its padding in each; there is room for " +
                   std::to_string(MaxPieces) + ". Say .pieces<N>().";
        });
    }
}

}  // namespace longspan
