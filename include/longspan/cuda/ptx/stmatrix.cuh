// SPDX-License-Identifier: Apache-2.0
//
// A warp stores four 8 × 8 matrices of two-byte elements to shared memory (sm_90): lane l names row l % 8 of matrix l / 8, 16
// bytes at a multiple of 16, and gives elements (l / 4, 2·(l % 4)) and the next of each. Reference: PTX ISA, "stmatrix".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ void store_matrices(std::uint32_t row, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

__device__ __forceinline__ void store_matrices_transposed(std::uint32_t row, std::uint32_t a, std::uint32_t b, std::uint32_t c, std::uint32_t d) {
    asm volatile("stmatrix.sync.aligned.m8n8.x4.trans.shared.b16 [%0], {%1, %2, %3, %4};" ::"r"(row), "r"(a), "r"(b), "r"(c), "r"(d) : "memory");
}

}  // namespace longspan::cuda::ptx
