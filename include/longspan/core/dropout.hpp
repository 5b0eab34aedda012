// SPDX-License-Identifier: Apache-2.0
//
// What a dropout probability becomes: 8 random bits decide an element, so a rate is a whole number of 256ths. An element whose
// byte is below `threshold` is dropped, the others are multiplied by `scale`, which keeps the expectation exactly.
//
// Reference: N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014.
#pragma once

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

/// A dropout probability, rounded to a multiple of 1/256. A literal type: a wrong constant is a compile error.
class dropout_rate {
public:
    constexpr dropout_rate() = default;

    /// Throws bad_argument unless 0 ≤ probability and round(256·probability) < 256.
    constexpr explicit dropout_rate(double probability) {
        expects(probability >= 0.0 && probability * 256.0 + 0.5 < 256.0, [&] {
            return "dropout: expected a probability from 0 up to 255/256, got " + std::to_string(probability);
        });
        threshold_ = static_cast<std::uint32_t>(probability * 256.0 + 0.5);
    }

    /// An element is dropped if its byte is below this: 0 … 255.
    LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t threshold() const { return threshold_; }
    /// 256 / (256 - threshold).
    LONGSPAN_HD [[nodiscard]] constexpr float scale() const { return 256.0f / static_cast<float>(256u - threshold_); }
    /// Whether anything is dropped at all.
    LONGSPAN_HD [[nodiscard]] constexpr bool active() const { return threshold_ != 0; }

private:
    std::uint32_t threshold_ = 0;
};

}  // namespace longspan
