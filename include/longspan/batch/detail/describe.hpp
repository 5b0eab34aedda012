// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <longspan/batch/batch.hpp>
#include <longspan/data/detail/grouped.hpp>

namespace longspan {

namespace detail {

/// 0.01234 → "1.2 %", rounded to the nearest tenth.
[[nodiscard]] inline std::string percent(double share) {
    const index tenths = static_cast<index>(share * 1000 + 0.5);
    return std::to_string(tenths / 10) + '.' + std::to_string(tenths % 10) + " %";
}

}  // namespace detail

inline std::string describe(const batch_counts& c) {
    using detail::grouped, detail::percent;
    return grouped(c.batches) + (c.batches == 1 ? " batch, " : " batches, ") + grouped(c.tokens) + " tokens, " +
           percent(c.padding_share()) + " padding; " + grouped(c.documents) +
           (c.documents == 1 ? " document, " : " documents, ") + grouped(c.split_documents) + " of them (" +
           percent(c.split_share()) + ") split";
}

}  // namespace longspan
