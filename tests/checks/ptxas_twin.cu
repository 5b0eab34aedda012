// SPDX-License-Identifier: Apache-2.0
// What tests/checks/ptxas must refuse, compiled by tests/checks/ptxas_twin: with SPILLS a kernel that holds 64 numbers in 32
// registers, with SERIALISED one that reads the sums of products under way; without either, one that does neither.
__global__ void __launch_bounds__(1024) copies(const float* from, float* to) { to[threadIdx.x] = from[threadIdx.x]; }

#ifdef SPILLS
__global__ void __launch_bounds__(1024, 2) holds_too_many(const float* from, float* to) {
    float value[64];
#pragma unroll
    for (int i = 0; i < 64; ++i) value[i] = from[i * 1024 + threadIdx.x];
#pragma unroll
    for (int i = 0; i < 64; ++i) asm volatile("" : "+f"(value[i]));
#pragma unroll
    for (int i = 0; i < 64; ++i) to[(63 - i) * 1024 + threadIdx.x] = value[i];
}
#endif

#ifdef SERIALISED
__global__ void reads_too_early(float* to, unsigned long long a, unsigned long long b) {
    float sum[4] = {};
    for (int i = 0; i < 4; ++i) {
        asm volatile("wgmma.fence.sync.aligned;" ::: "memory");
        asm volatile("wgmma.mma_async.sync.aligned.m64n8k16.f32.bf16.bf16 {%0, %1, %2, %3}, %4, %5, 1, 1, 1, 0, 0;"
                     : "+f"(sum[0]), "+f"(sum[1]), "+f"(sum[2]), "+f"(sum[3])
                     : "l"(a), "l"(b));
        asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory");
        sum[0] *= 2;
    }
    asm volatile("wgmma.wait_group.sync.aligned 0;" ::: "memory");
    for (int i = 0; i < 4; ++i) to[i * 128 + threadIdx.x] = sum[i];
}
#endif
