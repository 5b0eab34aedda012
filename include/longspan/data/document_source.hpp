// SPDX-License-Identifier: Apache-2.0
//
// Where documents come from, as a concept: a fixed, ordered collection that hands out runs of tokens of its documents by
// ordinal. A source never changes while it is read, may be read from one thread while another holds it, and keeps no place
// of its own: how far a run has come is the loader's `data_state` (batch/loader.hpp), which carries the source's
// `fingerprint`, so that a run cannot be resumed over other text without being told.
#pragma once

#include <concepts>
#include <span>
#include <string>

#include <longspan/core/types.hpp>
#include <longspan/data/byte_tokens.hpp>
#include <longspan/data/hash.hpp>

namespace longspan {

/// A collection of documents. For i in [0, count()):
///   name(i)             what a person calls the document, for messages
///   size(i)             its tokens; may be 0
///   digest(i)           a hash of its content: equal texts have equal digests
///   read(i, first, out) fills `out` with tokens [first, first + out.size()), which lie inside the document; may throw
///   vocabulary()        every token is in [0, vocabulary())
template <class S>
concept document_source = requires(const S& source, index i, std::span<token_id> out) {
    { source.count() } -> std::convertible_to<index>;
    { source.size(i) } -> std::convertible_to<index>;
    { source.name(i) } -> std::convertible_to<std::string>;
    { source.digest(i) } -> std::convertible_to<std::uint64_t>;
    { source.vocabulary() } -> std::convertible_to<index>;
    source.read(i, i, out);
};

/// A source that also weighs its targets: weights(i, first, out) fills `out` with the weights of tokens
/// [first, first + out.size()) *as targets*, each ≥ 0.
template <class S>
concept weighted_source = document_source<S> && requires(const S& source, index i, std::span<float> out) {
    source.weights(i, i, out);
};

/// A source of which a part can be taken: the documents with the given ordinals, in that order, as a source of its own.
template <class S>
concept selectable_source = document_source<S> && requires(const S& source, std::span<const index> ordinals) {
    { source.select(ordinals) } -> std::same_as<S>;
};

/// Tokens of all documents together.
[[nodiscard]] index total_tokens(const document_source auto& source) {
    index total = 0;
    for (index i = 0; i < source.count(); ++i) total += source.size(i);
    return total;
}

/// One hash of every document's name, size and content, in order.
[[nodiscard]] std::uint64_t fingerprint(const document_source auto& source) {
    std::uint64_t all = static_cast<std::uint64_t>(source.vocabulary());
    for (index i = 0; i < source.count(); ++i) {
        all = combine64(all, hash64(std::string(source.name(i))));
        all = combine64(all, static_cast<std::uint64_t>(source.size(i)));
        all = combine64(all, source.digest(i));
    }
    return all;
}

}  // namespace longspan
