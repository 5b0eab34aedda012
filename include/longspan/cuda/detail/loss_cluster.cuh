// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to its loss and its dz, read once and written once: a row waits in the registers of one CTA, or of a
// cluster of 2, 4 or 8 that share their sums through each other's shared memory (sm_90 and later), while the next one is on its
// way into shared memory. Each exponential is taken once, against the greatest logit of its own thread; what is left to do when
// the row's sum is known is one fma an element.
//
// Logits shrink into dz in place: dz of row r may fall on the logits of an earlier row. Clusters claim rows in order and tell
// when a row has been read; who would write over it waits for that. It was claimed before, by a cluster that runs.
#pragma once

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/detail/loss_kernels.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>
#include <longspan/cuda/ptx/ordered.cuh>

namespace longspan::cuda::detail {

/// How a row is cut: `ctas` of `threads`, each with `fours` times 16 bytes in registers. 0 ctas: it does not fit.
struct logit_split {
    int ctas, threads, fours;
    [[nodiscard]] constexpr index capacity() const { return index{4} * ctas * threads * fours; }
    /// CTAs that the registers of a multiprocessor should hold: while one waits for its cluster another loads.
    [[nodiscard]] constexpr int resident() const { return fours > 8 ? 1 : 1024 / threads; }
    /// Clusters of a launch: what 132 multiprocessors hold. Which of them takes a row changes no bit.
    [[nodiscard]] constexpr int clusters() const { return 132 * resident() / ctas; }
    /// Shared memory for the row to come.
    [[nodiscard]] constexpr bytes coming() const { return bytes{16} * threads * fours; }
};
[[nodiscard]] constexpr logit_split split_row(index vocabulary) {
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
__device__ inline void cluster_sync() {
    asm volatile("barrier.cluster.arrive.release.aligned;\nbarrier.cluster.wait.acquire.aligned;" ::: "memory");
}
/// The address, in the cluster's window, of the same variable in another of its CTAs.
__device__ inline unsigned address_in(unsigned rank, const void* variable) {
    unsigned there;
    asm volatile("mapa.shared::cluster.u32 %0, %1, %2;" : "=r"(there) : "r"(static_cast<unsigned>(__cvta_generic_to_shared(variable))), "r"(rank));
    return there;
}
__device__ inline int load_from(unsigned rank, const int* variable) {
    int value;
    asm volatile("ld.shared::cluster.s32 %0, [%1];" : "=r"(value) : "r"(address_in(rank, variable)) : "memory");
    return value;
}
/// Writes to the same variable of another CTA, whose mailbox counts the bytes as they land. No fence: a cluster's barrier would wait
/// for the next row's copies too.
__device__ inline void send(unsigned rank, float4* variable, float4 value, const std::uint64_t* mailbox) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.v4.f32 [%0], {%1, %2, %3, %4}, [%5];" ::"r"(address_in(rank, variable)),
                 "f"(value.x), "f"(value.y), "f"(value.z), "f"(value.w), "r"(address_in(rank, mailbox))
                 : "memory");
}
__device__ inline void send(unsigned rank, int* variable, int value, const std::uint64_t* mailbox) {
    asm volatile("st.async.weak.shared::cluster.mbarrier::complete_tx::bytes.s32 [%0], %1, [%2];" ::"r"(address_in(rank, variable)), "r"(value),
                 "r"(address_in(rank, mailbox))
                 : "memory");
}
__device__ inline void open_mailbox(std::uint64_t* mailbox) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], 1;\nfence.mbarrier_init.release.cluster;" ::"r"(
                     static_cast<unsigned>(__cvta_generic_to_shared(mailbox)))
                 : "memory");
}
/// One thread says how many bytes its CTA waits for this time.
__device__ inline void expect_mail(std::uint64_t* mailbox, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;" ::"r"(static_cast<unsigned>(__cvta_generic_to_shared(mailbox))), "r"(bytes)
                 : "memory");
}
__device__ inline void wait_for_mail(std::uint64_t* mailbox, int parity) {
    const auto here = static_cast<unsigned>(__cvta_generic_to_shared(mailbox));
    int done = 0;
    while (done == 0)
        asm volatile(
            "{\n.reg .pred p;\nmbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 p, [%1], %2;\nselp.s32 %0, 1, 0, p;\n}"
            : "=r"(done)
            : "r"(here), "r"(parity)
            : "memory");
}
#else
__device__ inline unsigned cluster_rank() { __trap(); }
__device__ inline void cluster_sync() {}
__device__ inline int load_from(unsigned, const int*) { return 0; }
__device__ inline void send(unsigned, float4*, float4, const std::uint64_t*) {}
__device__ inline void send(unsigned, int*, int, const std::uint64_t*) {}
__device__ inline void open_mailbox(std::uint64_t*) {}
__device__ inline void expect_mail(std::uint64_t*, int) {}
__device__ inline void wait_for_mail(std::uint64_t*, int) {}
#endif

/// A flag that says: what was read before it was set may be written over. Values that have come are not changed by later writes,
/// so it needs no fence.
__device__ inline int load_flag(const int* flag) { return ptx::load_relaxed(flag); }
__device__ inline void store_flag(int* flag) { ptx::store_relaxed(flag, 1); }

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

/// Rows of one launch, and what its clusters tell each other: zeros at first.
struct loss_claims {
    int rows;
    int lead;      // dz of row r falls on the logits of row (r - lead) / 2; below 0: on no other's
    int* claimed;  // rows taken so far
    int* read;     // [rows] set when a row's logits are needed no more
};

/// Persistent clusters over rows of logits [rows, v]; with Keep, dz goes to gradients [rows, v].
template <index Vocabulary, class T, bool Keep>
__global__ void __launch_bounds__(split_row(Vocabulary).threads, split_row(Vocabulary).resident())
    cross_entropy_rows_in_registers(loss_rows about, loss_claims claims, const float* logits, T* gradients) {
    constexpr logit_split split = split_row(Vocabulary);
    constexpr index stride = loss_stride(Vocabulary);
    constexpr int whole = static_cast<int>(Vocabulary / 4), reached = static_cast<int>(ceil_div(Vocabulary, 4));
    constexpr int tail = static_cast<int>(Vocabulary % 4);  // elements of the row's last, partial four
    constexpr bool exact = split.capacity() == Vocabulary;  // no thread reaches beyond the row
    constexpr bool clustered = split.ctas > 1;
    extern __shared__ float4 coming[];                      // [fours][threads]: each thread reads what it asked for itself
    __shared__ alignas(16) float4 of_cta[2][split.ctas];    // greatest, powers, logits, the target's logit: of a row and the next
    __shared__ int then[2];                                 // the row after the next
    __shared__ std::uint64_t mailbox[2];                    // where other CTAs' parts arrive
    const int thread = static_cast<int>(threadIdx.x);
    const unsigned rank = clustered ? cluster_rank() : 0;
    const int first = static_cast<int>(rank) * split.threads * split.fours + thread;  // this thread's first four
    const bool leads = rank == 0 && thread == 0;

    const auto target_at = [&](int row) { return row < claims.rows ? target_of(about.targets, row, Vocabulary) : -1; };
    const auto ask = [&](int row, std::int32_t target) {
        if (target >= 0) {
            const float4* const from = reinterpret_cast<const float4*>(logits + row * stride);
#pragma unroll
            for (int a = 0; a < split.fours; ++a) {
                const int four = first + a * split.threads;
                const std::uint32_t to = ptx::shared_address(&coming[a * split.threads + thread]);
                if (exact || four < whole) {
                    ptx::copy_16(to, from + four, true);
                } else if (four < reached) {  // the padding behind the row is not read
                    for (int i = 0; i < tail; ++i) ptx::copy_4(to + 4 * i, logits + row * stride + 4 * four + i);
                }
            }
        }
        ptx::commit_copies();
    };
    if (thread == 0) {
        then[0] = leads ? atomicAdd(claims.claimed, 2) : 0;
        if constexpr (clustered) open_mailbox(&mailbox[0]), open_mailbox(&mailbox[1]);
    }
    if constexpr (clustered) cluster_sync();
    else __syncthreads();
    int row = clustered ? load_from(0, &then[0]) : then[0];
    if constexpr (clustered) cluster_sync();  // all have read it
    else __syncthreads();
    int next = row + 1;
    std::int32_t target = target_at(row), next_target = target_at(next);
    ask(row, target);
    for (int slot = 0, parity = 0; row < claims.rows; parity ^= slot, slot ^= 1) {
        const int under = Keep && sizeof(T) == 2 && row >= claims.lead ? (row - claims.lead) / 2 : -1;
        int after = 0, free = 1;
        if (leads) {  // asked for now, needed later
            after = atomicAdd(claims.claimed, 1);
            if (under >= 0) free = load_flag(claims.read + under);
        }
        float hit = 0;
        if (leads && target >= 0) hit = logits[row * stride + target];
        ptx::wait_copies<0>();
        float4 z[split.fours];
        softmax_part mine{-INFINITY, 0, 0};
        float base = 0;
        if (target >= 0) {
#pragma unroll
            for (int a = 0; a < split.fours; ++a) {
                const int q = first + a * split.threads;
                z[a] = {-INFINITY, -INFINITY, -INFINITY, -INFINITY};
                if (exact || q < reached) z[a] = coming[a * split.threads + thread];
                if (!exact && tail > 0 && q == whole) {
                    if (tail < 2) z[a].y = -INFINITY;
                    if (tail < 3) z[a].z = -INFINITY;
                    z[a].w = -INFINITY;
                }
                mine.greatest = fmaxf(mine.greatest, fmaxf(fmaxf(z[a].x, z[a].y), fmaxf(z[a].z, z[a].w)));
                if (exact || q < whole) mine.logits += (z[a].x + z[a].y) + (z[a].z + z[a].w);
                else if (tail > 0 && q == whole) mine.logits += z[a].x + (tail > 1 ? z[a].y : 0) + (tail > 2 ? z[a].z : 0);
            }
        }
        asm volatile("" ::"f"(mine.greatest) : "memory");  // the row has left its place for the next
        ask(next, next_target);
        if (target >= 0) {
            base = mine.greatest == -INFINITY ? 0.0f : mine.greatest;  // a thread beyond the row: all its powers are 0
#pragma unroll
            for (int a = 0; a < split.fours; ++a) {
                z[a].x = exponential<T>(z[a].x - base), z[a].y = exponential<T>(z[a].y - base);
                z[a].z = exponential<T>(z[a].z - base), z[a].w = exponential<T>(z[a].w - base);
                mine.powers += (z[a].x + z[a].y) + (z[a].z + z[a].w);
            }
        }
        const softmax_part here = merge_over_cta<T, split.threads>(mine, slot);
        if (thread < 32) {
            if (leads)
                while (free == 0) free = load_flag(claims.read + under);
            hit = __shfl_sync(~0u, hit, 0);
            after = __shfl_sync(~0u, after, 0);
            const float4 sums{here.greatest, here.powers, here.logits, hit};
            if constexpr (clustered) {
                if (thread == 0) expect_mail(&mailbox[slot], split.ctas * 16 + 4);
                if (thread < split.ctas) {
                    send(static_cast<unsigned>(thread), &of_cta[slot][rank], sums, &mailbox[slot]);
                    if (rank == 0) send(static_cast<unsigned>(thread), &then[slot], after, &mailbox[slot]);
                }
            } else if (thread == 0) {
                of_cta[slot][0] = sums, then[slot] = after;
            }
        }
        if constexpr (clustered) wait_for_mail(&mailbox[slot], parity);
        else __syncthreads();
        if (Keep && leads) store_flag(claims.read + row);  // what all CTAs hold of it is in registers
        const float4 part = of_cta[slot][thread % split.ctas];  // one each, not all in every thread: rows fill the registers
        const softmax_part total = merge_over_lanes<T, split.ctas>({part.x, part.y, part.z});
        if constexpr (Keep) {
            four<T>* const out = reinterpret_cast<four<T>*>(gradients + row * stride);
            gradient_factors factors{};
            float multiplier = 0;
            if (target >= 0) {
                factors = factors_of(about, row, Vocabulary, total.powers);
                multiplier = factors.multiplier * exponential<T>(base - total.greatest);
            }
            const int hit_at = target / 4 - first;  // a multiple of the threads in the one thread that holds the target
#pragma unroll
            for (int a = 0; a < split.fours; ++a) {
                const int q = first + a * split.threads;
                if (!exact && q >= reached) continue;
                float4 dz{0, 0, 0, 0};
                if (target >= 0) {
                    dz = {fmaf(z[a].x, multiplier, factors.uniform), fmaf(z[a].y, multiplier, factors.uniform),
                          fmaf(z[a].z, multiplier, factors.uniform), fmaf(z[a].w, multiplier, factors.uniform)};
                    if (a * split.threads == hit_at) {
                        dz.x -= target % 4 == 0 ? factors.hit : 0.0f, dz.y -= target % 4 == 1 ? factors.hit : 0.0f;
                        dz.z -= target % 4 == 2 ? factors.hit : 0.0f, dz.w -= target % 4 == 3 ? factors.hit : 0.0f;
                    }
                }
                out[q] = round_four<T>(dz.x, dz.y, dz.z, dz.w);
            }
        }
        if (leads && target >= 0) about.softmax[row] = {total.greatest, total.powers, total.logits, of_cta[slot][0].w};
        row = next, target = next_target;
        next = then[slot], next_target = target_at(next);
    }
}

}  // namespace longspan::cuda::detail
