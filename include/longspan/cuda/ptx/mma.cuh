// SPDX-License-Identifier: Apache-2.0
//
// A warp's matrix product on tensor cores (sm_80): c[16, 8] += a[16, depth] · b[depth, 8], c in float. With g = lane / 4 and
// t = lane % 4 a lane holds
//
//     c     (g, 2t) (g, 2t+1) (g+8, 2t) (g+8, 2t+1)
//     k16   a: (g, 2t) (g+8, 2t) (g, 2t+8) (g+8, 2t+8), each with the next column; b: (2t, g) (2t+8, g), each with the next row
//     k8    a: (g, t) (g+8, t) (g, t+4) (g+8, t+4); b: (t, g) (t+4, g)
//
// Reference: PTX ISA, "mma.sync.aligned.m16n8k16" and "m16n8k8".
#pragma once

#include <cstdint>

namespace longspan::cuda::ptx {

__device__ __forceinline__ void mma_bf16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

__device__ __forceinline__ void mma_fp16(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

/// Operands are floats whose last 13 bits count for nothing.
__device__ __forceinline__ void mma_tf32(float (&c)[4], const std::uint32_t (&a)[4], const std::uint32_t (&b)[2]) {
    asm volatile("mma.sync.aligned.m16n8k8.row.col.f32.tf32.tf32.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b[0]), "r"(b[1]));
}

}  // namespace longspan::cuda::ptx
