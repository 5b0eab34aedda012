// SPDX-License-Identifier: Apache-2.0
//
// The attention axis: which keys each query sees. A pattern is an empty constexpr value whose type carries everything; kernels
// take the type. `contains` over positions within a document is the definition; the rest must agree with it, and tests prove by
// brute force that it does. Documents never see each other, whatever the pattern (pattern/documents.hpp).
//
//     constexpr auto attention = ls::causal & (ls::window<1024> | ls::first<64>);
//
// Memory: none. A tile's class costs O(intervals), whatever the length of the sequence.
#pragma once

#include <concepts>
#include <cstdint>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/pattern/interval.hpp>

namespace longspan {

/// What a kernel does with a block of queries × a block of keys: skips it, tests its elements, or takes it whole.
enum class tile_class : std::uint8_t { empty, partial, full };

/// A pattern's type P. `document` is the ordinal of the piece in the batch's table, read only by patterns whose arguments
/// differ by document. Positions count from the document's start.
///   arguments               trivially copyable run-time values; empty for closed forms
///   contains(a, d, q, k)    the definition
///   keys(a, d, queries)     any_all over key positions, for a non-empty run of queries
///   queries(a, d, keys)     any_all over query positions, for a non-empty run of keys: the backward's view
///   key_bits(a, d, q, k0)   bit i: contains(q, k0 + i); k0 may be negative, and the bits of negative positions mean nothing
///   query_bits(a, d, k, q0) bit i: contains(q0 + i, k); likewise
/// Optional, for exactness and for messages:
///   uncovered_keys(a, d, keys)        the part of a run of keys that not every query sees
///   uncovered_queries(a, d, queries)  the part of a run of queries that do not see every key
///   complaint(a, documents)           a sentence on arguments that cannot be, or nullptr
/// Optional, for patterns with more intervals than a kernel holds:
///   keys_from(a, d, queries, from, tile)   seen_part over key positions from `from` on, that reaches as far as from + tile at least
///   queries_from(a, d, keys, from, tile)   likewise over query positions
///   next_key(a, d, queries, from)          the first position from `from` on that any of them sees; no_end if there is none
/// Gaps may be closed, or `all` forget something, only before from + tile: whether a tile is live depends on nothing but the tile.
template <class P>
concept pattern = std::is_empty_v<P> && requires(const typename P::arguments& a, index n, interval run) {
    requires std::is_trivially_copyable_v<typename P::arguments>;
    { P::contains(a, n, n, n) } -> std::same_as<bool>;
    { P::keys(a, n, run).any.contains(n) } -> std::same_as<bool>;
    { P::queries(a, n, run).any.contains(n) } -> std::same_as<bool>;
    { P::key_bits(a, n, n, n) } -> std::same_as<std::uint32_t>;
    { P::query_bits(a, n, n, n) } -> std::same_as<std::uint32_t>;
};

/// The type of a pattern value, without const: `pattern_of<config::attention>`.
template <auto Value>
using pattern_of = std::remove_cvref_t<decltype(Value)>;

/// The arguments of a pattern that has none.
struct no_arguments {};

/// A pattern's arguments as an op takes them: as they are now, or where they stand, in the memory of the op's backend, when it runs.
/// Work that is recorded and replayed keeps the former, and reads the latter anew each time.
template <class Arguments>
struct pattern_values {
    Arguments value{};
    const Arguments* from = nullptr;

    constexpr pattern_values() = default;
    constexpr pattern_values(const Arguments& now) : value(now) {}
    constexpr pattern_values(const Arguments* later) : from(later) {}
    /// Where the op runs.
    LONGSPAN_HD [[nodiscard]] constexpr const Arguments& operator()() const { return from != nullptr ? *from : value; }
};
template <pattern P>
using values_of = pattern_values<typename P::arguments>;

/// Intervals at most in what `keys` and `queries` return: constants that size what a kernel keeps per tile.
template <pattern P>
inline constexpr int key_capacity = decltype(P::keys(typename P::arguments{}, 0, interval{}))::capacity;
template <pattern P>
inline constexpr int query_capacity = decltype(P::queries(typename P::arguments{}, 0, interval{}))::capacity;

/// A pattern whose sets come in parts.
template <class P>
concept listed_pattern = pattern<P> && requires(const typename P::arguments& a, index n, interval run) {
    P::keys_from(a, n, run, n, n).until;
    P::queries_from(a, n, run, n, n).until;
};

/// The sets of P from a place on; of a pattern that has them whole, the whole.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr auto keys_from(const typename P::arguments& a, index document, interval queries, index from, index tile) {
    if constexpr (listed_pattern<P>) return P::keys_from(a, document, queries, from, tile);
    else return seen_part<key_capacity<P>>{P::keys(a, document, queries)};
}
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr auto queries_from(const typename P::arguments& a, index document, interval keys, index from, index tile) {
    if constexpr (listed_pattern<P>) return P::queries_from(a, document, keys, from, tile);
    else return seen_part<query_capacity<P>>{P::queries(a, document, keys)};
}

/// keys_from if Forward, else queries_from.
template <pattern P, bool Forward>
LONGSPAN_HD [[nodiscard]] constexpr auto seen_from(const typename P::arguments& a, index document, interval own, index from, index tile) {
    if constexpr (Forward) return keys_from<P>(a, document, own, from, tile);
    else return queries_from<P>(a, document, own, from, tile);
}

/// The part of a run of keys that P does not show to every query; the whole run for patterns that do not say.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr interval uncovered_keys(const typename P::arguments& a, index document, interval keys) {
    if constexpr (requires { P::uncovered_keys(a, document, keys); }) return P::uncovered_keys(a, document, keys);
    else return keys;
}

/// The part of a run of queries to which P does not show every key; the whole run for patterns that do not say.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr interval uncovered_queries(const typename P::arguments& a, index document, interval queries) {
    if constexpr (requires { P::uncovered_queries(a, document, queries); }) return P::uncovered_queries(a, document, queries);
    else return queries;
}

/// What is wrong with a pattern's arguments for a batch of so many documents, as a sentence; nullptr if nothing is.
template <pattern P>
[[nodiscard]] constexpr const char* complaint(const typename P::arguments& a, index documents) {
    if constexpr (requires { P::complaint(a, documents); }) return P::complaint(a, documents);
    else return nullptr;
}

/// The class of a tile against what any and all of its other side see.
template <int Capacity>
LONGSPAN_HD [[nodiscard]] constexpr tile_class classify(const any_all<Capacity>& seen, interval tile) {
    bool touched = false;
    for (int i = 0; i < seen.any.count; ++i) touched = touched || !overlap(seen.any.items[i], tile).empty();
    if (!touched || tile.empty()) return tile_class::empty;
    for (int i = 0; i < seen.all.count; ++i) {
        if (overlap(seen.all.items[i], tile) == tile) return tile_class::full;
    }
    return tile_class::partial;
}

/// The class of queries × keys under P, within one document; empty if either run is.
template <pattern P>
LONGSPAN_HD [[nodiscard]] constexpr tile_class classify(const typename P::arguments& a, index document, interval queries, interval keys) {
    if (queries.empty() || keys.empty()) return tile_class::empty;
    return classify(P::keys(a, document, queries), keys);
}

/// Whether any of `own` sees one of these positions, as a walk over tiles of so many finds: key positions if Forward.
template <pattern P, bool Forward>
LONGSPAN_HD [[nodiscard]] constexpr bool touches(const typename P::arguments& a, index document, interval own, interval tile) {
    return classify(seen_from<P, Forward>(a, document, own, tile.begin, tile.length()), tile) != tile_class::empty;
}

}  // namespace longspan
