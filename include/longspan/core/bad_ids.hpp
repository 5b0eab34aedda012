// SPDX-License-Identifier: Apache-2.0
//
// Where a backend that cannot throw in the middle of a step leaves a note: the first token of a batch whose id, or whose target,
// is outside the vocabulary. Such an id is never used as an address.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

struct bad_ids {
    static constexpr index none = INT64_MAX;  ///< above every token: notes are minima, so their order does not matter

    index token = none;
    index target = none;

    LONGSPAN_HD [[nodiscard]] constexpr bool any() const { return token != none || target != none; }
};

}  // namespace longspan
