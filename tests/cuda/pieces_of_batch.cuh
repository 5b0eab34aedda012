// SPDX-License-Identifier: Apache-2.0
//
// A batch's table of pieces on both sides: whole documents, parts of documents, empty ones, documents of one token, padding.
#pragma once

#include <random>
#include <vector>

#include <longspan/core/piece.hpp>

#include "support.cuh"

namespace cuda_test {

/// Pieces over `tokens` tokens: lengths drawn from 0, 1, 2 and up to `longest`; starts within [0, latest]; the last one is padding.
class batch_pieces {
public:
    batch_pieces(index tokens, index longest, index latest, unsigned seed, bool padding = true)
        : tokens_(tokens), pieces_(drawn(tokens, longest, latest, seed, padding)), device_(pieces_) {}

    [[nodiscard]] longspan::piece_table on_host() const { return {pieces_, tokens_}; }
    [[nodiscard]] longspan::piece_table on_device() const { return {{device_.data(), device_.size()}, tokens_}; }

private:
    static std::vector<longspan::piece> drawn(index tokens, index longest, index latest, unsigned seed, bool padding) {
        std::mt19937_64 engine(seed);
        const auto below = [&](index n) { return static_cast<index>(engine() % static_cast<std::uint64_t>(n)); };
        std::vector<longspan::piece> pieces;
        index begin = 0;
        do {
            const index start = below(latest + 1);
            pieces.push_back({(below(1000) << 33) + below(1000), start, begin});
            const index lengths[] = {0, 1, 2, 1 + below(longest), longest};
            begin += lengths[below(5)];
        } while (begin < tokens);
        if (padding && tokens > 2) pieces.push_back({-1, 0, tokens - 1 - tokens / 8});
        // What begins behind the tokens, or behind the padding, is empty and last.
        for (auto& p : pieces) p.begin = std::min(p.begin, padding && tokens > 2 ? pieces.back().begin : tokens);
        return pieces;
    }

    index tokens_;
    std::vector<longspan::piece> pieces_;
    device_array<longspan::piece> device_;
};

}  // namespace cuda_test
