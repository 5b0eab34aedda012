// SPDX-License-Identifier: Apache-2.0
//
// What a probability of dropping becomes: a threshold on random bits, and the factor that keeps the expectation exactly.
//
//   dropout_rate   an element    8 bits    dropped if byte < round(256 p)      kept ones times 256 / (256 - threshold)
//   depth_rate     a document   32 bits    dropped if word < round(2^32 p)     kept ones times 2^32 / (2^32 - threshold)
//
// References: N. Srivastava et al., "Dropout: A Simple Way to Prevent Neural Networks from Overfitting", JMLR 2014; G. Huang et
// al., "Deep Networks with Stochastic Depth", arXiv:1603.09382.
#pragma once

#include <concepts>

#include <longspan/core/error.hpp>
#include <longspan/core/philox.hpp>
#include <longspan/core/types.hpp>

namespace longspan {

namespace detail {

/// `Bits` random bits decide. Throws bad_argument unless 0 ≤ probability and its threshold is below 2^Bits.
template <int Bits>
class drop_rate {
    static constexpr double whole = static_cast<double>(std::uint64_t{1} << Bits);

public:
    constexpr drop_rate() = default;

    constexpr explicit drop_rate(double probability) {
        expects(probability >= 0.0 && probability * whole + 0.5 < whole, [&] {
            return "a probability of dropping: expected at least 0 and, rounded to " + std::to_string(Bits) +
                   " bits, less than 1; got " + std::to_string(probability);
        });
        threshold_ = static_cast<std::uint32_t>(probability * whole + 0.5);
    }

    /// Dropped if the random bits are below this.
    LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t threshold() const { return threshold_; }
    /// What is kept is multiplied by this.
    template <std::floating_point C = float>
    LONGSPAN_HD [[nodiscard]] constexpr C scale() const {
        return static_cast<C>(whole / (whole - static_cast<double>(threshold_)));
    }
    /// Whether anything is ever dropped.
    LONGSPAN_HD [[nodiscard]] constexpr bool active() const { return threshold_ != 0; }

private:
    std::uint32_t threshold_ = 0;
};

}  // namespace detail

/// The probability that an element is dropped, rounded to a multiple of 1/256. A wrong constant is a compile error.
using dropout_rate = detail::drop_rate<8>;

/// The probability that a document's branch is dropped (stochastic depth), rounded to a multiple of 2^-32.
using depth_rate = detail::drop_rate<32>;

/// What happens to a block's branch before it joins the stream. Nothing by default: y = x + branch.
struct branch_drop {
    dropout_rate dropout{};
    depth_rate depth{};
};

/// Whether the branch of `document` is kept at the site with this key.
LONGSPAN_HD [[nodiscard]] constexpr bool keeps_branch(philox_key key, index document, depth_rate rate) {
    return philox4x32(document_counter(document), key).word[0] >= rate.threshold();
}

}  // namespace longspan
