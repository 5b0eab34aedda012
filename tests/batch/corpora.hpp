// SPDX-License-Identifier: Apache-2.0
//
// Corpora for the tests of batches.
#pragma once

#include <string>
#include <vector>

#include <longspan/batch/plan.hpp>
#include <longspan/data/text_documents.hpp>

namespace corpora {

using longspan::index;

/// Documents of the given sizes; byte k of document i says who and where it is, as far as a byte can.
inline longspan::text_documents of_sizes(const std::vector<index>& sizes) {
    longspan::text_documents source;
    for (std::size_t i = 0; i < sizes.size(); ++i) {
        std::string text;
        for (index k = 0; k < sizes[i]; ++k)
            text += static_cast<char>(longspan::mix64((static_cast<std::uint64_t>(i) << 32) + static_cast<std::uint64_t>(k)));
        source.add(text);
    }
    return source;
}

/// Sizes around the edges of a context, and many random ones, most of them short.
inline std::vector<index> mixed_sizes(index context, index random, std::uint64_t seed) {
    std::vector<index> sizes{0, 1, 2, context - 1, context, context + 1, 2 * context, 2 * context + 3, 0, 5 * context + 1};
    for (index i = 0; i < random; ++i) {
        const std::uint64_t word = longspan::mix64(seed + static_cast<std::uint64_t>(i));
        sizes.push_back(static_cast<index>((word >> 8) % static_cast<std::uint64_t>(word % 8 == 0 ? 4 * context : context / 3 + 1)));
    }
    return sizes;
}

/// All pieces of an epoch, batch after batch.
template <class Plan>
std::vector<std::vector<longspan::planned_piece>> epoch_of(Plan plan, index epoch) {
    std::vector<std::vector<longspan::planned_piece>> all;
    for (plan.seek(epoch, 0); plan.epoch() == epoch; plan.advance()) {
        const auto pieces = plan.pieces();
        all.emplace_back(pieces.begin(), pieces.end());
    }
    return all;
}

}  // namespace corpora
