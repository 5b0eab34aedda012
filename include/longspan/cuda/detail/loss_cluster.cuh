// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to its loss and its dz, read once and written once: a row waits in the registers of one CTA, or of a
// cluster of 2, 4 or 8 that share their sums through each other's shared memory (sm_90 and later). Each exponential is taken
// once, against the greatest logit of its own thread; what is left to do when the row's sum is known is one fma an element.
//
// dz may lie on the row's own logits: a cluster's barrier stands between its last read and its first write.
#pragma once

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/detail/loss_kernels.cuh>

namespace longspan::cuda::detail {

/// How a row is cut: `ctas` of `threads`, each with `fours` times 16 bytes in registers. 0 ctas: it does not fit.
struct row_split {
    int ctas, threads, fours;
    [[nodiscard]] constexpr index capacity() const { return index{4} * ctas * threads * fours; }
    /// CTAs that the registers of a multiprocessor should hold: while one waits for its cluster another loads.
    [[nodiscard]] constexpr int resident() const { return fours > 8 ? 1 : 1024 / threads; }
};
[[nodiscard]] constexpr row_split split_row(index vocabulary) {
    const index fours = ceil_div(vocabulary, 4);
    for (const int deep : {8, 16})
        for (const int ctas : {1, 2, 4, 8}) {
            if (deep == 16 && ctas < 8) continue;
            const index threads = round_up(ceil_div(fours, index{ctas} * deep), 32);
            if (threads <= 512) return {ctas, static_cast<int>(threads), static_cast<int>(ceil_div(fours, ctas * threads))};
        }
    return {0, 0, 0};
}

// The instructions of clusters; where the target has none, launches keep away (clusters_run).
#if !defined(__CUDA_ARCH__) || __CUDA_ARCH__ >= 900
__device__ inline unsigned cluster_rank() {
    unsigned rank;
    asm volatile("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}
/// Everything this thread has read and written is before what others do after their cluster_wait.
__device__ inline void cluster_arrive() { asm volatile("barrier.cluster.arrive.release.aligned;" ::: "memory"); }
__device__ inline void cluster_wait() { asm volatile("barrier.cluster.wait.acquire.aligned;" ::: "memory"); }
/// Writes to the same variable in the shared memory of another CTA of the cluster.
__device__ inline void store_in(unsigned rank, float4* variable, float4 value) {
    const auto here = static_cast<unsigned>(__cvta_generic_to_shared(variable));
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(here), "r"(rank));
    asm volatile("st.shared::cluster.v4.f32 [%0], {%1, %2, %3, %4};" ::"r"(there), "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w) : "memory");
}
#else
__device__ inline unsigned cluster_rank() { __trap(); }
__device__ inline void cluster_arrive() {}
__device__ inline void cluster_wait() {}
__device__ inline void store_in(unsigned, float4*, float4) {}
#endif

/// Whether this device runs clusters and the kernel was compiled for them.
inline bool clusters_run(const char* op, const void* kernel) {
    int device = 0, clusters = 0;
    check(cudaGetDevice(&device), op);
    check(cudaDeviceGetAttribute(&clusters, cudaDevAttrClusterLaunch, device), op);
    if (clusters == 0) return false;
    cudaFuncAttributes compiled;
    check(cudaFuncGetAttributes(&compiled, kernel), op);
    return compiled.ptxVersion >= 90;
}

/// A cluster per row of logits [rows, v]; with Keep, dz goes to gradients [rows, v].
template <index Vocabulary, class T, bool Keep>
__global__ void __launch_bounds__(split_row(Vocabulary).threads, split_row(Vocabulary).resident())
    cross_entropy_rows_in_registers(loss_rows rows, const float* logits, T* gradients) {
    constexpr row_split split = split_row(Vocabulary);
    constexpr index stride = loss_stride(Vocabulary);
    constexpr int whole = static_cast<int>(Vocabulary / 4), reached = static_cast<int>(ceil_div(Vocabulary, 4));
    constexpr int tail = static_cast<int>(Vocabulary % 4);  // elements of the row's last, partial four
    constexpr bool exact = split.capacity() == Vocabulary;  // no thread reaches beyond the row
    const int thread = static_cast<int>(threadIdx.x);
    const unsigned rank = split.ctas > 1 ? cluster_rank() : 0;
    const int r = static_cast<int>(blockIdx.x) / split.ctas;
    const float* const row = logits + static_cast<index>(r) * stride;
    const int first = static_cast<int>(rank) * split.threads * split.fours + thread;  // this thread's first four
    const bool leads = rank == 0 && thread == 0;

    const std::int32_t target = target_of(rows.targets, r, Vocabulary);
    if (target < 0) {
        if constexpr (Keep) {
#pragma unroll
            for (int a = 0; a < split.fours; ++a)
                if (exact || first + a * split.threads < reached)
                    reinterpret_cast<four<T>*>(gradients + static_cast<index>(r) * stride)[first + a * split.threads] = four<T>{};
        }
        return;
    }
    if constexpr (split.ctas > 1) cluster_arrive();  // this CTA's shared memory is there to be written to
    const float at_target = leads ? row[target] : 0.0f;

    float4 z[split.fours];
#pragma unroll
    for (int a = 0; a < split.fours; ++a) {
        const int q = first + a * split.threads;
        z[a] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
        if (exact || q < whole) {
            z[a] = __ldcs(reinterpret_cast<const float4*>(row) + q);
        } else if (tail > 0 && q == whole) {
            z[a].x = row[4 * q];
            if constexpr (tail > 1) z[a].y = row[4 * q + 1];
            if constexpr (tail > 2) z[a].z = row[4 * q + 2];
        }
    }
    softmax_part mine{-INFINITY, 0, 0};
#pragma unroll
    for (int a = 0; a < split.fours; ++a) {
        mine.greatest = fmaxf(mine.greatest, fmaxf(fmaxf(z[a].x, z[a].y), fmaxf(z[a].z, z[a].w)));
        if (exact || first + a * split.threads < whole) mine.logits += (z[a].x + z[a].y) + (z[a].z + z[a].w);
        else if (tail > 0 && first + a * split.threads == whole) mine.logits += z[a].x + (tail > 1 ? z[a].y : 0) + (tail > 2 ? z[a].z : 0);
    }
    const float base = mine.greatest == -INFINITY ? 0.0f : mine.greatest;  // a thread beyond the row: all its powers are 0
#pragma unroll
    for (int a = 0; a < split.fours; ++a) {
        z[a].x = exponential<T>(z[a].x - base), z[a].y = exponential<T>(z[a].y - base);
        z[a].z = exponential<T>(z[a].z - base), z[a].w = exponential<T>(z[a].w - base);
        mine.powers += (z[a].x + z[a].y) + (z[a].z + z[a].w);
    }

    __shared__ alignas(16) float4 of_cta[split.ctas];  // greatest, powers, logits, the target's logit
    const softmax_part here = merge_over_cta<T, split.threads>(mine);
    if constexpr (split.ctas > 1) {
        cluster_wait();
        if (thread < 32) {
            const float hit = __shfl_sync(~0u, at_target, 0);
            if (thread < split.ctas) store_in(static_cast<unsigned>(thread), &of_cta[rank], {here.greatest, here.powers, here.logits, hit});
        }
        cluster_arrive();
        cluster_wait();
    } else {
        if (thread == 0) of_cta[0] = {here.greatest, here.powers, here.logits, at_target};
        __syncthreads();
    }
    const float4 part = of_cta[thread % split.ctas];  // one each, not all in every thread: rows fill the registers
    const softmax_part total = merge_over_lanes<T, split.ctas>({part.x, part.y, part.z});
    if constexpr (Keep) {
        const gradient_factors factors = factors_of(rows, r, Vocabulary, total.powers);
        const float multiplier = factors.multiplier * exponential<T>(base - total.greatest);
        const int hit_at = target / 4 - first;  // a multiple of the threads in the one thread that holds the target
#pragma unroll
        for (int a = 0; a < split.fours; ++a) {
            const int q = first + a * split.threads;
            if (!exact && q >= reached) continue;
            float4 dz{fmaf(z[a].x, multiplier, factors.uniform), fmaf(z[a].y, multiplier, factors.uniform),
                      fmaf(z[a].z, multiplier, factors.uniform), fmaf(z[a].w, multiplier, factors.uniform)};
            if (a * split.threads == hit_at) {
                dz.x -= target % 4 == 0 ? factors.hit : 0.0f, dz.y -= target % 4 == 1 ? factors.hit : 0.0f;
                dz.z -= target % 4 == 2 ? factors.hit : 0.0f, dz.w -= target % 4 == 3 ? factors.hit : 0.0f;
            }
            reinterpret_cast<four<T>*>(gradients + static_cast<index>(r) * stride)[q] = round_four<T>(dz.x, dz.y, dz.z, dz.w);
        }
    }
    if (leads) rows.softmax[r] = {total.greatest, total.powers, total.logits, of_cta[0].w};
}

}  // namespace longspan::cuda::detail
