// SPDX-License-Identifier: Apache-2.0
//
// A warp loads four 8 × 8 matrices of two-byte elements from shared memory (sm_75): lane l names row l % 8 of matrix l / 8, 16
// bytes at a multiple of 16, and gets elements (l / 4, 2·(l % 4)) and the next of each matrix; transposed: (2·(l % 4), l / 4) and
// the one below. Reference: PTX ISA, "ldmatrix".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ void load_matrices(std::uint32_t (&to)[4], std::uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

__device__ __forceinline__ void load_matrices_transposed(std::uint32_t (&to)[4], std::uint32_t row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(to[0]), "=r"(to[1]), "=r"(to[2]), "=r"(to[3])
                 : "r"(row)
                 : "memory");
}

}  // namespace longspan::cuda::ptx
