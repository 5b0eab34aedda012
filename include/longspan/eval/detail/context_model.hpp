// SPDX-License-Identifier: Apache-2.0
//
// Bodies of eval/context_model.hpp.
#pragma once

#include <longspan/eval/context_model.hpp>

namespace longspan {

inline context_model::context_model(int order, index most_entries)
    : order_(order), most_entries_(most_entries), contexts_(1024), followers_(1024) {
    expects(0 <= order && order <= 6, [&] {
        return "The order of a context model is 0 to 6, so that a context and a byte fit into a word; it is " +
               std::to_string(order) + ".";
    });
    expects(most_entries >= 1, [&] {
        return "A context model has room for at least 1 entry; it was given " + std::to_string(most_entries) + ".";
    });
}

inline const context_model::entry* context_model::find(const std::vector<entry>& slots, std::uint64_t key) {
    const std::size_t mask = slots.size() - 1;
    for (std::size_t at = mix64(key) & mask;; at = (at + 1) & mask) {
        if (slots[at].key == key) return &slots[at];
        if (slots[at].key == 0) return nullptr;
    }
}

/// The entry of a key; null if it is new and there is no room. At most 3/4 of the slots are used, so that a search is short.
inline context_model::entry* context_model::find_or_add(std::vector<entry>& slots, index& used, std::uint64_t key) {
    const auto slot_of = [](std::vector<entry>& in, std::uint64_t wanted) {
        const std::size_t mask = in.size() - 1;
        std::size_t at = mix64(wanted) & mask;
        while (in[at].key != 0 && in[at].key != wanted) at = (at + 1) & mask;
        return &in[at];
    };
    entry* slot = slot_of(slots, key);
    if (slot->key == key) return slot;
    if (entries_ >= most_entries_) {
        full_ = true;
        return nullptr;
    }
    if (4 * (used + 1) > 3 * static_cast<index>(slots.size())) {
        std::vector<entry> larger(2 * slots.size());
        for (const entry& e : slots)
            if (e.key != 0) *slot_of(larger, e.key) = e;
        slots.swap(larger);
        slot = slot_of(slots, key);
    }
    slot->key = key;
    ++used;
    ++entries_;
    return slot;
}

/// Counts `byte` after the last n bytes of `history`, for every n up to the order that `seen` bytes allow. A context that
/// finds no room is left out whole, so that its T is always the sum of its followers' counts, and the probabilities sum to one.
inline void context_model::count(std::uint64_t history, int seen, token_id byte) {
    constexpr std::uint32_t most = 0xffffffffU;
    for (int n = 0; n <= std::min(order_, seen); ++n) {
        entry* follower = find_or_add(followers_, followers_used_, key_of(history << 8 | static_cast<std::uint64_t>(byte), n + 1));
        if (!follower) return;
        entry* context = find_or_add(contexts_, contexts_used_, key_of(history, n));
        if (!context || context->count == most) return;
        context->novel += follower->count == 0 ? 1 : 0;
        ++follower->count;
        ++context->count;
    }
}

/// f(history, bytes before it in the document, at most order, byte) for every byte of every document, 64 Ki at a time.
template <class F>
void context_model::for_each_byte(const document_source auto& source, F f) {
    expects(source.vocabulary() == byte_tokens::vocabulary, [&] {
        return "A context model reads bytes, a vocabulary of 256; the source has " + std::to_string(source.vocabulary()) + ".";
    });
    std::vector<token_id> line(std::size_t{1} << 16);
    for (index i = 0; i < source.count(); ++i) {
        const index size = source.size(i);
        std::uint64_t history = 0;
        for (index first = 0; first < size; first += static_cast<index>(line.size())) {
            const index length = std::min(size - first, static_cast<index>(line.size()));
            source.read(i, first, std::span(line).first(static_cast<std::size_t>(length)));
            for (index k = 0; k < length; ++k) {
                const token_id byte = line[static_cast<std::size_t>(k)];
                f(history, static_cast<int>(std::min<index>(first + k, 8)), byte);
                history = history << 8 | static_cast<std::uint64_t>(byte);
            }
        }
    }
}

void context_model::fit(const document_source auto& source) {
    for_each_byte(source, [&](std::uint64_t history, int seen, token_id byte) { count(history, seen, byte); });
}

std::vector<double> context_model::bits_per_byte(const document_source auto& source) const {
    std::vector<double> bits(static_cast<std::size_t>(order_) + 1, 0.0);
    index bytes_measured = 0;
    for_each_byte(source, [&](std::uint64_t history, int seen, token_id byte) {
        if (seen == 0) return;
        ++bytes_measured;
        double probability = 1.0 / 256;
        for (int n = 0; n <= order_; ++n) {
            const entry* context = n <= seen ? find(contexts_, key_of(history, n)) : nullptr;
            if (context && context->count > 0) {
                const entry* follower = find(followers_, key_of(history << 8 | static_cast<std::uint64_t>(byte), n + 1));
                const double times = follower ? follower->count : 0, novel = context->novel;
                probability = (times + novel * probability) / (context->count + novel);
            }
            bits[static_cast<std::size_t>(n)] -= std::log2(probability);
        }
    });
    expects<bad_corpus>(bytes_measured > 0, [&] {
        return "Bits per byte need a document of at least 2 bytes; there is none among " + std::to_string(source.count()) + ".";
    });
    for (double& sum : bits) sum /= static_cast<double>(bytes_measured);
    return bits;
}

}  // namespace longspan
