// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to its loss and its dz, for any vocabulary and GPU: reads logits twice (the second time partly from L2).
// What it shares with the kernel that reads them once (detail/loss_cluster.cuh) stands here too.
#pragma once

#include <bit>
#include <cmath>
#include <cstdint>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/cuda/loss_sizes.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::detail {

/// What softmaxes of rows read beside their logits, and what they leave: {greatest logit, Σ e^(z − greatest), Σ z, the target's
/// logit} of each row with a target, from which cross_entropy_totals makes the losses.
struct loss_rows {
    const std::int32_t* targets;
    const float* token_weights;  // or null
    const float* scale;          // or null
    float smoothing;
    float4* softmax;  // written
};

/// e^x. A two-byte dz has no use for the last bits that the accurate one costs its instructions for.
template <class T>
__device__ inline float exponential(float x) {
    if constexpr (sizeof(T) == 2) {
        float y;
        asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(y) : "f"(x * 1.4426950408889634f));
        return y;
    } else {
        return expf(x);
    }
}

/// A part of a row's softmax: the greatest logit, Σ e^(z − greatest), Σ z.
struct softmax_part {
    float greatest, powers, logits;
};

template <class T>
__device__ inline softmax_part merge(const softmax_part& a, const softmax_part& b) {
    const float greatest = fmaxf(a.greatest, b.greatest);
    const float of_a = a.powers == 0 ? 0.0f : a.powers * exponential<T>(a.greatest - greatest);  // an empty part has no greatest
    const float of_b = b.powers == 0 ? 0.0f : b.powers * exponential<T>(b.greatest - greatest);
    return {greatest, of_a + of_b, a.logits + b.logits};
}

/// The greatest of a warp's floats in every lane; a NaN is greater than all.
__device__ inline float greatest_of_warp(float x) {
    // As integers, once the magnitude of negatives is turned round, floats compare as they are.
    const auto ordered = [](int bits) { return bits ^ (bits >> 31 & 0x7fffffff); };
    return __int_as_float(ordered(__reduce_max_sync(~0u, ordered(__float_as_int(x)))));
}

/// Merges over groups of `Lanes` lanes, each of which holds the same parts, in a fixed order; every lane gets the result.
template <class T, int Lanes>
__device__ inline softmax_part merge_over_lanes(softmax_part mine) {
    const float greatest = greatest_of_warp(mine.greatest);
    mine.powers = mine.powers == 0 ? 0.0f : mine.powers * exponential<T>(mine.greatest - greatest);  // an empty part has no greatest
    mine.greatest = greatest;
#pragma unroll
    for (int offset = Lanes / 2; offset > 0; offset /= 2) {
        mine.powers += __shfl_xor_sync(~0u, mine.powers, offset);
        mine.logits += __shfl_xor_sync(~0u, mine.logits, offset);
    }
    return mine;
}

/// The part of a whole CTA, in the lanes of its first warp. Contains a barrier; who merges row after row takes turns 0 and 1, so
/// that the first warp may still read a row's parts while others write the next one's.
template <class T, int Threads>
__device__ inline softmax_part merge_over_cta(softmax_part mine, int turn = 0) {
    __shared__ softmax_part of_warp[2][Threads / 32];
    mine = merge_over_lanes<T, 32>(mine);
    if constexpr (Threads > 32) {
        if (threadIdx.x % 32 == 0) of_warp[turn][threadIdx.x / 32] = mine;
        __syncthreads();
        if (threadIdx.x >= 32) return mine;
        mine = threadIdx.x < Threads / 32 ? of_warp[turn][threadIdx.x] : softmax_part{-INFINITY, 0, 0};
        mine = merge_over_lanes<T, 32>(mine);
    }
    return mine;
}

/// Threads for a row: 16 bytes of logits a time and at least four times each, where the row is long enough.
[[nodiscard]] constexpr int loss_threads(index vocabulary) {
    int threads = 32;
    while (threads < 1024 && threads * 16 < vocabulary) threads *= 2;
    return threads;
}

/// A token's target if it is one, else -1: a target outside [-1, v) must not be an address.
__device__ inline std::int32_t target_of(const std::int32_t* targets, index r, index vocabulary) {
    const std::int32_t target = targets[r];
    return target >= 0 && target < vocabulary ? target : -1;
}

/// dz = power · multiplier + uniform, less hit at the target: a token's factors, its weight times the loss scale in each. In
/// floats: rows wait in registers while this is computed.
struct gradient_factors {
    float multiplier, uniform, hit;
};
__device__ inline gradient_factors factors_of(const loss_rows& rows, index r, index vocabulary, float powers) {
    const float weight = (rows.token_weights == nullptr ? 1.0f : rows.token_weights[r]) * (rows.scale == nullptr ? 1.0f : *rows.scale);
    return {weight / powers, -weight * (rows.smoothing / static_cast<float>(vocabulary)), weight * (1 - rows.smoothing)};
}

/// Four elements that are stored at once.
template <class T>
struct alignas(4 * sizeof(T)) four {
    T at[4];
};

/// Rounds to nearest even, by the hardware's instruction where there is one.
template <class T>
__device__ inline four<T> round_four(float a, float b, float c, float d) {
    if constexpr (sizeof(T) == 2) {
        uint2 pair;
        if constexpr (std::is_same_v<T, bf16>) {
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair.x) : "f"(b), "f"(a));
            asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(pair.y) : "f"(d), "f"(c));
        } else {
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair.x) : "f"(b), "f"(a));
            asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(pair.y) : "f"(d), "f"(c));
        }
        return std::bit_cast<four<T>>(pair);
    } else {
        return {{a, b, c, d}};
    }
}

/// One CTA per row of logits [rows, v]; with Keep, dz goes to gradients [rows, v]. Reads a row twice: for vocabularies that do
/// not fit the registers of a cluster, and for GPUs without clusters.
template <index Vocabulary, class T, bool Keep>
__global__ void __launch_bounds__(loss_threads(Vocabulary)) cross_entropy_rows(loss_rows rows, const float* logits, T* gradients) {
    constexpr int threads = loss_threads(Vocabulary);
    constexpr index stride = loss_stride(Vocabulary);
    constexpr index whole = Vocabulary / 4;  // in fours; up to three logits are left over
    constexpr int tail = static_cast<int>(Vocabulary % 4);
    const index r = blockIdx.x;
    const int thread = static_cast<int>(threadIdx.x);
    const auto* const fours = reinterpret_cast<const float4*>(logits + r * stride);
    const float* const row = logits + r * stride;
    T* const gradient = Keep ? gradients + r * stride : nullptr;

    const std::int32_t target = target_of(rows.targets, r, Vocabulary);
    if (target < 0) {
        if constexpr (Keep) {
            const four<T> zeros{};
            for (index i = thread; i < whole; i += threads) reinterpret_cast<four<T>*>(gradient)[i] = zeros;
            if (thread < tail) gradient[4 * whole + thread] = from_compute<T>(0.0f);
        }
        return;
    }
    const float at_target = row[target];
    softmax_part mine{-INFINITY, 0, 0};
    constexpr int ahead = 4;  // 16-byte loads in flight
    for (index begin = thread; begin < whole; begin += static_cast<index>(ahead) * threads) {
        float4 z[ahead];
#pragma unroll
        for (int a = 0; a < ahead; ++a)
            if (begin + a * threads < whole) z[a] = fours[begin + a * threads];
        float greatest = mine.greatest;
#pragma unroll
        for (int a = 0; a < ahead; ++a)
            if (begin + a * threads < whole) greatest = fmaxf(greatest, fmaxf(fmaxf(z[a].x, z[a].y), fmaxf(z[a].z, z[a].w)));
        float powers = mine.powers == 0 ? 0.0f : mine.powers * exponential<T>(mine.greatest - greatest);
        float sum = 0;
#pragma unroll
        for (int a = 0; a < ahead; ++a)
            if (begin + a * threads < whole) {
                powers += (exponential<T>(z[a].x - greatest) + exponential<T>(z[a].y - greatest)) +
                          (exponential<T>(z[a].z - greatest) + exponential<T>(z[a].w - greatest));
                sum += (z[a].x + z[a].y) + (z[a].z + z[a].w);
            }
        mine = {greatest, powers, mine.logits + sum};
    }
    if (thread < tail) {
        const float z = row[4 * whole + thread];
        mine = merge<T>(mine, {z, 1, z});
    }
    __shared__ softmax_part of_row;
    mine = merge_over_cta<T, threads>(mine);
    if (thread == 0) of_row = mine;
    __syncthreads();
    const softmax_part total = of_row;
    if (thread == 0) rows.softmax[r] = {total.greatest, total.powers, total.logits, at_target};
    if constexpr (Keep) {
        const gradient_factors factors = factors_of(rows, r, Vocabulary, total.powers);
        const auto dz = [&](float z) { return fmaf(exponential<T>(z - total.greatest), factors.multiplier, factors.uniform); };
        constexpr int back = 2;
        for (index begin = thread; begin < whole; begin += static_cast<index>(back) * threads) {
            float4 z[back];
#pragma unroll
            for (int a = 0; a < back; ++a)
                if (begin + a * threads < whole) z[a] = fours[begin + a * threads];
#pragma unroll
            for (int a = 0; a < back; ++a) {
                if (begin + a * threads >= whole) continue;
                reinterpret_cast<four<T>*>(gradient)[begin + a * threads] = round_four<T>(dz(z[a].x), dz(z[a].y), dz(z[a].z), dz(z[a].w));
            }
        }
        if (thread < tail) gradient[4 * whole + thread] = from_compute<T>(dz(row[4 * whole + thread]));
        __syncthreads();
        if (thread == 0) gradient[target] = from_compute<T>(dz(at_target) - factors.hit);
    }
}

/// The same rows, and where the sums go.
struct loss_totals {
    const std::int32_t* targets;
    const float* token_weights;  // or null
    const float4* softmax;
    double smoothing;
    index rows, first;     // `first`: the token of row 0
    double* token_losses;  // or null
    index* first_bad;      // or null
    cross_entropy_sums* sums;
};

/// Losses of the rows of a window, added to *sums in a fixed order: each thread its rows in order, then the threads by halves.
template <index Vocabulary>
__global__ void __launch_bounds__(256) cross_entropy_totals(loss_totals of) {
    __shared__ cross_entropy_sums of_thread[256];
    cross_entropy_sums mine{};
    for (index r = threadIdx.x; r < of.rows; r += 256) {
        if (of.first_bad != nullptr && (of.targets[r] < -1 || of.targets[r] >= Vocabulary))
            atomicMin(reinterpret_cast<long long*>(of.first_bad), static_cast<long long>(of.first + r));
        double loss = 0;
        if (target_of(of.targets, r, Vocabulary) >= 0) {
            const float4 row = of.softmax[r];
            // Differences from the log-sum-exp, each of the size of a loss: no large logits cancel.
            const double log_sum_exp = static_cast<double>(row.x) + log(static_cast<double>(row.y));
            const double sharp = log_sum_exp - static_cast<double>(row.w);
            const double smooth = log_sum_exp - static_cast<double>(row.z) / static_cast<double>(Vocabulary);
            loss = of.smoothing == 0 ? sharp : (1 - of.smoothing) * sharp + of.smoothing * smooth;
            const double weight = of.token_weights == nullptr ? 1.0 : static_cast<double>(of.token_weights[r]);
            mine.loss += weight * loss;
            mine.weight += weight;
            mine.targets += 1;
        }
        if (of.token_losses != nullptr) of.token_losses[r] = loss;
    }
    of_thread[threadIdx.x] = mine;
    __syncthreads();
    for (unsigned half = 128; half > 0; half /= 2) {
        if (threadIdx.x < half) {
            of_thread[threadIdx.x].loss += of_thread[threadIdx.x + half].loss;
            of_thread[threadIdx.x].weight += of_thread[threadIdx.x + half].weight;
            of_thread[threadIdx.x].targets += of_thread[threadIdx.x + half].targets;
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) {
        of.sums->loss += of_thread[0].loss;
        of.sums->weight += of_thread[0].weight;
        of.sums->targets += of_thread[0].targets;
    }
}

}  // namespace longspan::cuda::detail
