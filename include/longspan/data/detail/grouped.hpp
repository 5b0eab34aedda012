// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>

#include <longspan/core/types.hpp>

namespace longspan::detail {

/// 8701254 → "8,701,254", for sentences that a person reads.
[[nodiscard]] inline std::string grouped(index n) {
    const std::string digits = std::to_string(n);
    std::string text;
    for (std::size_t i = 0; i < digits.size(); ++i) {
        if (i > 0 && digits[i - 1] != '-' && (digits.size() - i) % 3 == 0) text += ',';
        text += digits[i];
    }
    return text;
}

}  // namespace longspan::detail
