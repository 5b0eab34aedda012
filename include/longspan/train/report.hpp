// SPDX-License-Identifier: Apache-2.0
//
// What a step says of itself, as values; `std::cout << report` prints one line.
#pragma once

#include <charconv>
#include <cmath>
#include <string>

#include <longspan/core/types.hpp>

namespace longspan {

/// The most bytes of the arena that were held in each phase of a step, over its micro-batches.
struct memory_marks {
    bytes forward = 0, turn = 0, backward = 0, update = 0;
    bytes pinned = 0;  ///< of pinned host memory, beside the arena
};

/// One optimizer step.
struct step_report {
    index step = 0;            ///< updates done, this one included; a refused step is counted too
    double loss = 0;           ///< mean over the targets, in nats
    double gradient_norm = 0;  ///< of the mean gradient over all parameters, before clipping
    double learning_rate = 0;
    index tokens = 0;          ///< of documents, in all micro-batches
    index targets = 0;
    bytes high_water = 0;      ///< measured from the regions that the step acquired and released
    memory_marks memory{};     ///< the same of each phase
    std::string refused{};     ///< empty, or why no parameter changed: which tensor was first not finite, which token left its range

    [[nodiscard]] double bits_per_token() const { return loss / 0.69314718055994530942; }
};

namespace detail {

inline std::string decimals(double value, int digits) {
    if (!std::isfinite(value)) return std::isnan(value) ? "nan" : value > 0 ? "inf" : "-inf";
    char text[64];
    const auto end = std::to_chars(text, text + sizeof text, value, std::chars_format::general, digits).ptr;
    return std::string(text, end);
}

}  // namespace detail

[[nodiscard]] inline std::string describe(const step_report& r) {
    std::string line = "step " + std::to_string(r.step) + "  loss " + detail::decimals(r.loss, 5) + "  norm " +
                       detail::decimals(r.gradient_norm, 4) + "  rate " + detail::decimals(r.learning_rate, 3) + "  targets " +
                       std::to_string(r.targets);
    if (!r.refused.empty()) line += "  (no update: " + r.refused + ")";
    return line;
}

/// Any stream that takes a string.
template <class Stream>
    requires requires(Stream& out, const std::string& line) { out << line; }
Stream& operator<<(Stream& out, const step_report& report) {
    out << describe(report);
    return out;
}

}  // namespace longspan
