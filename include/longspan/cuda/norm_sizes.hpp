// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of the norms' backwards (cuda/norm.cuh). No CUDA header.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// Parts that a sum over all rows is cut into: a constant of the arithmetic, not of the device.
inline constexpr index norm_parts = 264;

/// Bytes of scratch of a backward over rows of `width`: a partial row of each parameter's gradient (two with a bias) per part.
[[nodiscard]] constexpr bytes norm_workspace(index width) { return norm_parts * 2 * width * bytes{sizeof(float)}; }

}  // namespace longspan::cuda
