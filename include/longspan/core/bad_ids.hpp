// SPDX-License-Identifier: Apache-2.0
//
// Where a backend that cannot throw in the middle of a step leaves a note: the first token of a batch whose id, or whose target,
// is outside the vocabulary (such an id is never used as an address), or one of whose residual streams would have left the range of its
// fixed point (precision/fixed_point.hpp).
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

struct bad_ids {
    static constexpr index none = INT64_MAX;  ///< above every token: notes are minima, so their order does not matter

    index token = none;
    index target = none;
    index stream = none;

    /// Whether an id is bad: then the batch was wrong, and its step does not count.
    LONGSPAN_HD [[nodiscard]] constexpr bool any() const { return token != none || target != none; }
    /// Whether a stream left its range: the step counts and changes no parameter, as one whose loss is not finite.
    LONGSPAN_HD [[nodiscard]] constexpr bool overflowed() const { return stream != none; }
};

}  // namespace longspan
