// SPDX-License-Identifier: Apache-2.0
//
// The scratch memory of dense products on the device (cuda/gemm.cuh), as constants that plans are made of. No CUDA header.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan::cuda {

/// Whether a result replaces what its memory holds or is added to it.
enum class accumulate : bool { no, yes };

/// Scratch that every product is given, whatever its shape: a limit that cuBLASLt's choices may not pass. What NVIDIA advises
/// for Hopper; products which split their depth keep their partial sums there.
inline constexpr bytes gemm_workspace = 32 * MiB;

/// Where every workspace must start.
inline constexpr bytes workspace_alignment = 256;

/// Parts that a sum over all tokens is cut into: a constant of the arithmetic, not of the device.
inline constexpr index bias_gradient_parts = 128;

/// Bytes of scratch of linear_bias_gradient: a partial sum of each column per part.
[[nodiscard]] constexpr bytes bias_gradient_workspace(index columns) { return bias_gradient_parts * columns * bytes{sizeof(float)}; }

/// Whether a bias' gradient is summed by the product for its weight's, or by a kernel of its own, which reads dy once more. What measures
/// faster in `bench_cuda_gemm` ("weight and bias gradient") belongs here; apart is, by 2 to 7 % at 16,384 tokens and more.
inline constexpr bool bias_gradient_in_epilogue = false;

}  // namespace longspan::cuda
