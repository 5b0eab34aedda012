// SPDX-License-Identifier: Apache-2.0
//
// What a run's random numbers hang on and what changes from step to step. A trainer keeps it in its backend's memory, so that a
// step which was recorded once (a CUDA graph) draws other numbers each time it is replayed.
#pragma once

#include <cstdint>

namespace longspan {

struct run_keys {
    std::uint64_t seed = 0;  ///< of the run
    std::uint64_t step = 0;  ///< steps taken before this one
};

}  // namespace longspan
