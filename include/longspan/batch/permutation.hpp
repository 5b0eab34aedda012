// SPDX-License-Identifier: Apache-2.0
//
// The order in which the gradient of an embedding adds its rows: tokens sorted by id, and by place within an id. With it, each
// row of the table is one sum in a fixed order, without atomics, on every backend. Sorting belongs to the batch's thread,
// because a device-wide sort needs a workspace whose size no plan can know. A counting sort: O(budget + vocabulary).
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

/// Fills order[0 .. tokens) with the indices of `tokens`, sorted by id, then by index. Every id is in [0, vocabulary), and both
/// spans have one length, below 2^31. Throws bad_argument otherwise. Allocates vocabulary + 1 counters. Deterministic.
inline void sort_tokens(std::span<const std::int32_t> tokens, index vocabulary, std::span<std::int32_t> order) {
    expects(tokens.size() == order.size() && tokens.size() <= 0x7fffffffU, [&] {
        return "sort_tokens: there are as many places as tokens, at most 2^31 - 1; " + std::to_string(tokens.size()) +
               " tokens and " + std::to_string(order.size()) + " places came.";
    });
    std::vector<std::int32_t> next(static_cast<std::size_t>(vocabulary) + 1, 0);  // first free place of each id
    for (std::size_t t = 0; t < tokens.size(); ++t) {
        const std::int32_t id = tokens[t];
        expects(0 <= id && id < vocabulary, [&] {
            return "sort_tokens: token " + std::to_string(t) + " has the id " + std::to_string(id) + ", outside the vocabulary [0, " +
                   std::to_string(vocabulary) + ")";
        });
        ++next[static_cast<std::size_t>(id) + 1];
    }
    for (std::size_t id = 1; id < next.size(); ++id) next[id] += next[id - 1];
    for (std::size_t t = 0; t < tokens.size(); ++t)
        order[static_cast<std::size_t>(next[static_cast<std::size_t>(tokens[t])]++)] = static_cast<std::int32_t>(t);
}

}  // namespace longspan
