// SPDX-License-Identifier: Apache-2.0
//
// What a model must beat: byte-level context models of order 0 to N, counted on the training documents and measured on others.
// Order n predicts a byte from the n bytes before it. The orders are interpolated as Witten and Bell do (method C of PPM): with
// T occurrences of a context, U of them followed by a byte not seen there before,
//
//     P_n(byte | context) = (count(context, byte) + U · P_{n−1}(byte | shorter context)) / (T + U),   P_{−1} = 1/256,
//
// so a context that was never seen says what the shorter one says, and no byte is impossible. Nothing is learnt from the
// documents that are measured. Memory: an entry per distinct context and per distinct (context, byte), each 22 to 43 bytes of
// table, and never more than `most_entries` of them together: once there are so many, what is new is not counted any more.
// For 8 MB of C++ at order 3: 330,000 entries. Reference: I. Witten, T. Bell, "The zero-frequency problem: estimating the
// probabilities of novel events in adaptive text compression", IEEE Transactions on Information Theory 37, 1991.
#pragma once

#include <algorithm>
#include <cmath>
#include <span>
#include <string>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/data/document_source.hpp>

namespace longspan {

/// Interpolated context models of all orders from 0 to `order()`, over bytes.
class context_model {
public:
    /// Highest order, 0 to 6, and the most entries that its tables may hold.
    explicit context_model(int order = 3, index most_entries = index{1} << 23);

    /// Counts the documents of a source of bytes; may be called again for more. Throws bad_argument unless the vocabulary is
    /// 256, and what the source throws.
    void fit(const document_source auto& source);

    /// Bits per byte of each order, [order() + 1], over every byte but the first of each document, which are just those that a
    /// sequence model is asked for. Throws bad_corpus if there is none.
    [[nodiscard]] std::vector<double> bits_per_byte(const document_source auto& source) const;

    [[nodiscard]] int order() const { return order_; }
    /// Entries of all tables; and whether some found no room.
    [[nodiscard]] index entries() const { return entries_; }
    [[nodiscard]] bool full() const { return full_; }

private:
    struct entry {
        std::uint64_t key = 0;    // 0: free; see key_of
        std::uint32_t count = 0;  // T of a context, or the count of a byte after it; stops at its largest value
        std::uint32_t novel = 0;  // U of a context
    };

    /// A context of n bytes (the last n of `history`), and perhaps a byte after it, as a word that is never 0: the bytes below
    /// a leading one. Contexts of n bytes and of n − 1 bytes with a byte after them would meet, hence two kinds of tables.
    [[nodiscard]] static std::uint64_t key_of(std::uint64_t history, int n) {
        const std::uint64_t bit = std::uint64_t{1} << (8 * n);
        return (history & (bit - 1)) | bit;
    }
    [[nodiscard]] static const entry* find(const std::vector<entry>& slots, std::uint64_t key);
    [[nodiscard]] entry* find_or_add(std::vector<entry>& slots, index& used, std::uint64_t key);
    void count(std::uint64_t history, int seen, token_id byte);
    template <class F>
    static void for_each_byte(const document_source auto& source, F f);

    int order_;
    index most_entries_;
    index entries_ = 0;
    bool full_ = false;
    std::vector<entry> contexts_, followers_;  // open addressing, powers of two
    index contexts_used_ = 0, followers_used_ = 0;
};

}  // namespace longspan

#include <longspan/eval/detail/context_model.hpp>
