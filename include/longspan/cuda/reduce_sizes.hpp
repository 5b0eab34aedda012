// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of reductions over a whole store (cuda/reduce.cuh). No CUDA header.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// Parts that a sum over a store is cut into: a constant of the arithmetic, not of the device.
inline constexpr index sum_parts = 1056;

/// Bytes of scratch of sum_of_squares: a double per part, whatever the length.
[[nodiscard]] constexpr bytes sum_of_squares_workspace() { return sum_parts * bytes{sizeof(double)}; }

}  // namespace longspan::cuda
