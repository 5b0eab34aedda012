// SPDX-License-Identifier: Apache-2.0
//
// From a row of logits to its loss and its dz: the kernels of cuda/loss.cuh. Bound by bytes: logits are read once or twice (the
// second time partly from L2), dz is written once.
#pragma once

#include <cmath>
#include <cstdint>

#include <longspan/core/types.hpp>
#include <longspan/cuda/loss_sizes.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::detail {

/// Everything about a part's rows but their logits. Row r is token `first + r`, of the window's rows from `losses` on.
struct loss_rows {
    const std::int32_t* targets;  // of the part's first token
    const float* token_weights;   // of the part's first token; or null
    const float* scale;           // or null
    double* losses;               // [rows] written
    double* token_losses;         // of the part's first token; or null
    index* first_bad;             // or null
    index first;                  // the part's first token
    double smoothing;
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

/// The part of the whole CTA, in every thread; lanes and warps merge in a fixed order.
template <class T, int Threads>
__device__ inline softmax_part merge_over_cta(softmax_part mine) {
    constexpr int warps = Threads / 32;
#pragma unroll
    for (int offset = 16; offset > 0; offset /= 2) {
        softmax_part other;
        other.greatest = __shfl_xor_sync(~0u, mine.greatest, offset);
        other.powers = __shfl_xor_sync(~0u, mine.powers, offset);
        other.logits = __shfl_xor_sync(~0u, mine.logits, offset);
        mine = merge<T>(mine, other);
    }
    if constexpr (warps == 1) return mine;
    __shared__ softmax_part parts[warps];
    if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = mine;
    __syncthreads();
    softmax_part total = parts[0];
#pragma unroll
    for (int warp = 1; warp < warps; ++warp) total = merge<T>(total, parts[warp]);
    return total;
}

/// Threads for a row: 16 bytes of logits a time and at least four times each, where the row is long enough.
[[nodiscard]] constexpr int loss_threads(index vocabulary) {
    int threads = 32;
    while (threads < 1024 && threads * 16 < vocabulary) threads *= 2;
    return threads;
}

/// A token's target if it is one; else -1, with a note of one outside [-1, v).
__device__ inline std::int32_t target_of(const loss_rows& rows, index r, index vocabulary, bool note) {
    const std::int32_t target = rows.targets[r];
    if (target >= -1 && target < vocabulary) return target;
    if (note && rows.first_bad != nullptr) atomicMin(reinterpret_cast<long long*>(rows.first_bad), static_cast<long long>(rows.first + r));
    return -1;
}

/// Writes the row's loss; one thread of the row calls it.
__device__ inline void write_loss(const loss_rows& rows, index r, index vocabulary, const softmax_part& row, float at_target) {
    const double log_sum_exp = static_cast<double>(row.greatest) + log(static_cast<double>(row.powers));
    // Differences from the log-sum-exp, each of the size of a loss: no large logits cancel.
    const double sharp = log_sum_exp - static_cast<double>(at_target);
    const double smooth = log_sum_exp - static_cast<double>(row.logits) / static_cast<double>(vocabulary);
    const double loss = rows.smoothing == 0 ? sharp : (1 - rows.smoothing) * sharp + rows.smoothing * smooth;
    rows.losses[r] = loss;
    if (rows.token_losses != nullptr) rows.token_losses[r] = loss;
}

/// N elements that are stored at once.
template <class T, int N>
struct alignas(sizeof(T) * N) packed {
    T at[N];
};

/// One CTA per row of logits [rows, v]; with Keep, dz goes to gradients [rows, v]. Reads a row twice.
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

    const std::int32_t target = target_of(rows, r, Vocabulary, thread == 0);
    if (target < 0) {
        if constexpr (Keep) {
            const packed<T, 4> zeros{};
            for (index i = thread; i < whole; i += threads) reinterpret_cast<packed<T, 4>*>(gradient)[i] = zeros;
            if (thread < tail) gradient[4 * whole + thread] = from_compute<T>(0.0f);
        }
        if (thread == 0) {
            rows.losses[r] = 0;
            if (rows.token_losses != nullptr) rows.token_losses[r] = 0;
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
    const softmax_part total = merge_over_cta<T, threads>(mine);
    if (thread == 0) write_loss(rows, r, Vocabulary, total, at_target);
    if constexpr (Keep) {
        const double weight = (rows.token_weights == nullptr ? 1.0 : static_cast<double>(rows.token_weights[r])) *
                              (rows.scale == nullptr ? 1.0 : static_cast<double>(*rows.scale));
        const float multiplier = static_cast<float>(weight / static_cast<double>(total.powers));
        const float uniform = static_cast<float>(-weight * rows.smoothing / static_cast<double>(Vocabulary));
        const auto dz = [&](float z) { return fmaf(exponential<T>(z - total.greatest), multiplier, uniform); };
        constexpr int back = 2;
        for (index begin = thread; begin < whole; begin += static_cast<index>(back) * threads) {
            float4 z[back];
#pragma unroll
            for (int a = 0; a < back; ++a)
                if (begin + a * threads < whole) z[a] = fours[begin + a * threads];
#pragma unroll
            for (int a = 0; a < back; ++a) {
                if (begin + a * threads >= whole) continue;
                packed<T, 4> result;
                result.at[0] = from_compute<T>(dz(z[a].x)), result.at[1] = from_compute<T>(dz(z[a].y));
                result.at[2] = from_compute<T>(dz(z[a].z)), result.at[3] = from_compute<T>(dz(z[a].w));
                reinterpret_cast<packed<T, 4>*>(gradient)[begin + a * threads] = result;
            }
        }
        if (thread < tail) gradient[4 * whole + thread] = from_compute<T>(dz(row[4 * whole + thread]));
        __syncthreads();
        if (thread == 0) gradient[target] = from_compute<T>(dz(at_target) - static_cast<float>(weight * (1 - rows.smoothing)));
    }
}

/// *sums += over the rows of a window, in a fixed order: each thread its rows in order, then the threads in order.
template <index Vocabulary>
__global__ void __launch_bounds__(256) cross_entropy_totals(const std::int32_t* targets, const float* token_weights, const double* losses,
                                                            index rows, cross_entropy_sums* sums) {
    __shared__ cross_entropy_sums of_thread[256];
    cross_entropy_sums mine{};
    for (index r = threadIdx.x; r < rows; r += 256) {
        if (targets[r] < 0 || targets[r] >= Vocabulary) continue;
        const double weight = token_weights == nullptr ? 1.0 : static_cast<double>(token_weights[r]);
        mine.loss += weight * losses[r];
        mine.weight += weight;
        mine.targets += 1;
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
        sums->loss += of_thread[0].loss;
        sums->weight += of_thread[0].weight;
        sums->targets += of_thread[0].targets;
    }
}

}  // namespace longspan::cuda::detail
