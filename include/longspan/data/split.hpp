// SPDX-License-Identifier: Apache-2.0
//
// Train and held-out documents, split by document, never within one: a model that has read the first half of a file has seen
// its second half's names. Documents with the same content (a header installed twice, a vendored licence) go to the same side
// for the same reason. Which side is a matter of hash64(name, seed) alone, so neither the order of the arguments nor the
// machine's paths move a document. Memory: 32 bytes a document.
#pragma once

#include <algorithm>
#include <string>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/data/document_source.hpp>

namespace longspan {

/// How to split: one document in `one_in` is held out, at least one.
struct split_options {
    std::uint64_t seed = 0;
    index one_in = 10;
};

/// The two sides of a split; each keeps the order of the source.
template <document_source Source>
struct train_and_held_out {
    Source train, held_out;
};

/// Splits by document: of n distinct texts, round(n / one_in) but at least one, those with the smallest hashes, are held out,
/// each with all its copies. Empty documents go to the training side. Throws bad_corpus if a side would be empty. Allocates.
template <selectable_source Source>
[[nodiscard]] train_and_held_out<Source> split(const Source& source, split_options options = {});

namespace detail {

/// One text of a source, with the smallest hash among its copies' names.
struct distinct_text {
    std::uint64_t digest;
    index size;
    std::uint64_t rank;
    index ordinal;
};

/// held_out[i] for every document i.
[[nodiscard]] inline std::vector<bool> choose_held_out(std::vector<distinct_text> texts, index count, index one_in) {
    const auto by_content = [](const distinct_text& a, const distinct_text& b) {
        if (a.digest != b.digest) return a.digest < b.digest;
        if (a.size != b.size) return a.size < b.size;
        if (a.rank != b.rank) return a.rank < b.rank;
        return a.ordinal < b.ordinal;
    };
    std::sort(texts.begin(), texts.end(), by_content);
    std::vector<distinct_text> firsts;
    for (distinct_text& text : texts) {
        const bool copy = !firsts.empty() && firsts.back().digest == text.digest && firsts.back().size == text.size;
        if (copy) text.rank = firsts.back().rank;
        else firsts.push_back(text);
    }
    const index distinct = static_cast<index>(firsts.size());
    std::vector<bool> held_out(static_cast<std::size_t>(count), false);
    if (distinct < 2) return held_out;
    const index wanted = std::clamp<index>((distinct + one_in / 2) / one_in, 1, distinct - 1);
    std::sort(firsts.begin(), firsts.end(), [](const distinct_text& a, const distinct_text& b) {
        return a.rank != b.rank ? a.rank < b.rank : a.ordinal < b.ordinal;
    });
    firsts.resize(static_cast<std::size_t>(wanted));
    std::sort(firsts.begin(), firsts.end(), by_content);
    for (const distinct_text& text : texts) {
        const auto same = std::lower_bound(firsts.begin(), firsts.end(), text, [](const auto& a, const auto& b) {
            return a.digest != b.digest ? a.digest < b.digest : a.size < b.size;
        });
        if (same != firsts.end() && same->digest == text.digest && same->size == text.size)
            held_out[static_cast<std::size_t>(text.ordinal)] = true;
    }
    return held_out;
}

}  // namespace detail

template <selectable_source Source>
train_and_held_out<Source> split(const Source& source, split_options options) {
    expects(options.one_in >= 2, [&] {
        return "split: one document in one_in is held out, so one_in is at least 2; it is " + std::to_string(options.one_in);
    });
    const index count = source.count();
    std::vector<detail::distinct_text> texts;
    for (index i = 0; i < count; ++i)
        if (source.size(i) > 0)
            texts.push_back({source.digest(i), source.size(i), hash64(std::string(source.name(i)), options.seed), i});
    const std::size_t filled = texts.size();
    const std::string first_name = filled > 0 ? std::string(source.name(texts.front().ordinal)) : std::string();
    const std::vector<bool> held_out = detail::choose_held_out(std::move(texts), count, options.one_in);

    std::vector<index> train_ordinals, held_out_ordinals;
    for (index i = 0; i < count; ++i)
        (held_out[static_cast<std::size_t>(i)] ? held_out_ordinals : train_ordinals).push_back(i);
    expects<bad_corpus>(!held_out_ordinals.empty(), [&] {
        return "A split into training and held-out documents needs at least two different ones; " +
               (filled == 0   ? std::string("there is none that holds text")
               : filled == 1 ? "one came, " + first_name
                             : std::to_string(filled) + " came, all with the text of " + first_name) +
               ". Give more files.";
    });
    return {source.select(train_ordinals), source.select(held_out_ordinals)};
}

}  // namespace longspan
