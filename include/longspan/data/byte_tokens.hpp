// SPDX-License-Identifier: Apache-2.0
//
// Text as bytes: token = byte, vocabulary 256. No tokeniser to train, to store or to get wrong, and bits per token are bits
// per byte, which compare across models and with compressors. All 256 ids are text; none is set aside as a separator, because
// documents are kept apart by the piece table of a batch, not by a token (see core/piece.hpp).
//
// Within a piece the target of a token is the byte after it. The first byte of a document is predicted by nobody, and the
// last one predicts nothing (target −1): a document of n bytes has n − 1 targets.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

/// A token's id: below the vocabulary, never negative.
using token_id = std::int32_t;

/// The byte-level vocabulary.
struct byte_tokens {
    static constexpr index vocabulary = 256;

    /// One id per byte of `text`. Allocates.
    [[nodiscard]] static std::vector<token_id> encode(std::string_view text);

    /// The bytes that `ids` stand for. Throws bad_argument at an id outside 0 … 255. Allocates.
    [[nodiscard]] static std::string decode(std::span<const token_id> ids);
};

inline std::vector<token_id> byte_tokens::encode(std::string_view text) {
    std::vector<token_id> ids;
    ids.reserve(text.size());
    for (const char c : text) ids.push_back(static_cast<unsigned char>(c));
    return ids;
}

inline std::string byte_tokens::decode(std::span<const token_id> ids) {
    std::string text;
    text.reserve(ids.size());
    for (const token_id id : ids) {
        expects(0 <= id && id < vocabulary, [&] {
            return "byte_tokens::decode: an id is a byte, 0 to 255; the one at index " + std::to_string(text.size()) +
                   " is " + std::to_string(id);
        });
        text.push_back(static_cast<char>(static_cast<unsigned char>(id)));
    }
    return text;
}

}  // namespace longspan
