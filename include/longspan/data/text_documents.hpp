// SPDX-License-Identifier: Apache-2.0
//
// Documents that are already in memory: strings, read as bytes. For a first program, for tests, and for text that a program
// makes itself. Memory: the text, once.
#pragma once

#include <initializer_list>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/data/document_source.hpp>

namespace longspan {

/// A source of byte-level documents that owns its texts. Satisfies selectable_source.
class text_documents {
public:
    text_documents() = default;
    /// One document per text, named "document 0", "document 1", …
    text_documents(std::initializer_list<std::string_view> texts) {
        for (const std::string_view text : texts) add(std::string(text));
    }
    explicit text_documents(std::vector<std::string> texts) {
        for (std::string& text : texts) add(std::move(text));
    }

    /// Appends a document; without a name it is called "document <ordinal>".
    void add(std::string text, std::string name = {}) {
        if (name.empty()) name = "document " + std::to_string(count());
        digests_.push_back(hash64(text));
        texts_.push_back(std::move(text));
        names_.push_back(std::move(name));
    }

    [[nodiscard]] index count() const { return static_cast<index>(texts_.size()); }
    [[nodiscard]] index size(index i) const { return static_cast<index>(text(i).size()); }
    [[nodiscard]] const std::string& name(index i) const { return names_.at(static_cast<std::size_t>(i)); }
    [[nodiscard]] std::uint64_t digest(index i) const { return digests_.at(static_cast<std::size_t>(i)); }
    [[nodiscard]] static constexpr index vocabulary() { return byte_tokens::vocabulary; }
    [[nodiscard]] const std::string& text(index i) const { return texts_.at(static_cast<std::size_t>(i)); }

    /// Tokens [first, first + out.size()) of document i. Throws bad_argument outside the document.
    void read(index i, index first, std::span<token_id> out) const {
        const std::string& from = text(i);
        expects(first >= 0 && first + static_cast<index>(out.size()) <= size(i), [&] {
            return name(i) + " has " + std::to_string(size(i)) + " tokens; " + std::to_string(out.size()) + " from " +
                   std::to_string(first) + " on were asked for";
        });
        for (std::size_t k = 0; k < out.size(); ++k)
            out[k] = static_cast<unsigned char>(from[static_cast<std::size_t>(first) + k]);
    }

    [[nodiscard]] text_documents select(std::span<const index> ordinals) const {
        text_documents part;
        for (const index i : ordinals) part.add(text(i), name(i));
        return part;
    }

private:
    std::vector<std::string> texts_, names_;
    std::vector<std::uint64_t> digests_;
};

static_assert(selectable_source<text_documents>);

}  // namespace longspan
