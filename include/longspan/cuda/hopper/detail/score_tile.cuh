// SPDX-License-Identifier: Apache-2.0
//
// A warpgroup's 64 queries × Keys scores in registers, and what becomes of them: placed, tested, raised to probabilities whose
// sums are kept beside. A lane holds of rows g and g + 8 of its warp the columns 8j + 2t and the next (g = lane / 4, t = lane % 4).
#pragma once

#include <limits>

#include <longspan/cuda/detail/attention_tile.cuh>
#include <longspan/cuda/hopper/detail/mask_words.cuh>
#include <longspan/pattern/comb.hpp>

namespace longspan::cuda::hopper::detail {

template <class T>
__device__ __forceinline__ std::uint32_t pack_pair(float low, float high) {
    if constexpr (std::is_same_v<T, bf16>) return ptx::pack_bf16(low, high);
    else return ptx::pack_fp16(low, high);
}

/// What a query's row comes to.
struct row_result {
    float weight;   ///< of what was summed
    float other;    ///< of what out held before
    float log_sum;
};

template <class Pattern, int Keys, class Score, class T>
struct score_tile {
    using rule_type = longspan::cuda::detail::score_rule<Score, T>;
    static constexpr float nothing = -std::numeric_limits<float>::infinity();

    float score[Keys / 2];
    float peak[2] = {nothing, nothing}, total[2] = {0, 0}, shrink[2] = {1, 1};
    rule_type rule;
    float factor;

    __device__ __forceinline__ score_tile(const longspan::cuda::detail::score_numbers& n, int head) : rule(n, head), factor(rule.factor()) {}

    __device__ __forceinline__ void place(index query, index first_key) {
        if constexpr (!rule_type::plain) {
            constexpr int step = step_of<Pattern>;  // positions are those of one remainder, distances are true ones
            const int apart = static_cast<int>(query - first_key) - 2 * (static_cast<int>(threadIdx.x) & 3);
#pragma unroll
            for (int i = 0; i < Keys / 2; ++i) {
                const float distance = static_cast<float>(step * (apart + i / 2 % 2 * 8 - i / 4 * 8 - i % 2));
                score[i] = rule.placed(rule.capped(score[i]), distance);
            }
        }
    }
    /// What is not seen can have no probability.
    template <class Bits>
    __device__ __forceinline__ void hide(const Bits& seen) {
#pragma unroll
        for (int i = 0; i < Keys / 2; ++i) score[i] = seen(i) ? score[i] : nothing;
    }
    /// Scores become probabilities; true where a peak of the warp moved, so that what was summed with it has to shrink.
    __device__ __forceinline__ bool raise() {
        bool moved = false;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            float top[4];
#pragma unroll
            for (int i = 0; i < 4; ++i) top[i] = fmaxf(score[4 * i + 2 * h], score[4 * i + 2 * h + 1]);
#pragma unroll
            for (int i = 4; i < Keys / 8; ++i) top[i % 4] = fmaxf(top[i % 4], fmaxf(score[4 * i + 2 * h], score[4 * i + 2 * h + 1]));
            float most = fmaxf(fmaxf(top[0], top[1]), fmaxf(top[2], top[3]));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
            most = fmaxf(most, __shfl_xor_sync(~0u, most, 2)) * factor;
            const bool grown = most > peak[h] + 8.0f;
            shrink[h] = grown ? ptx::exp2_fast(peak[h] - most) : 1.0f;
            peak[h] = grown ? most : peak[h];
            moved = moved || grown;
        }
        moved = __any_sync(~0u, moved);
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            // A row that has seen nothing keeps a peak of −∞: its exponents are measured from 0, and are −∞ too.
            const float from = peak[h] == nothing ? 0.0f : peak[h];
            float sum[2] = {0, 0};
#pragma unroll
            for (int i = 0; i < Keys / 8; ++i)
#pragma unroll
                for (int e = 0; e < 2; ++e) {
                    float& x = score[4 * i + 2 * h + e];
                    x = ptx::exp2_fast(fmaf(x, factor, -from));
                    sum[e] += x;
                }
            total[h] = fmaf(total[h], shrink[h], sum[0] + sum[1]);
        }
        return moved;
    }
    /// Rounds probabilities to the operand of the second product; 0 where not kept.
    template <class F, class Kept>
    __device__ __forceinline__ void pack(std::uint32_t (&to)[Keys / 16][4], [[maybe_unused]] const Kept& kept) const {
#pragma unroll
        for (int k = 0; k < Keys / 16; ++k)
#pragma unroll
            for (int i = 0; i < 4; ++i) {
                to[k][i] = pack_pair<F>(score[8 * k + 2 * i], score[8 * k + 2 * i + 1]);
                if constexpr (Score::dropout) to[k][i] &= kept.of_pair(4 * k + i);
            }
    }
    template <int N>
    __device__ __forceinline__ void shrink_rows(float (&out)[N]) const {
#pragma unroll
        for (int i = 0; i < N; ++i) out[i] *= shrink[i / 2 % 2];
    }

    /// The end of row g + 8 · half: joins the four lanes' sums, the sink, and what was there before.
    template <bool Sink>
    __device__ __forceinline__ row_result finish(int half, const longspan::cuda::detail::score_numbers& n, index head_here, bool merge, bool mine,
                                                 const statistic_view<float>& lse, index row) const {
        float sum = total[half], top = peak[half], weight = 1;
        sum += __shfl_xor_sync(~0u, sum, 1);
        sum += __shfl_xor_sync(~0u, sum, 2);
        if constexpr (Sink) {
            if (!merge) {
                const float sink = n.sinks[head_here] * static_cast<float>(longspan::cuda::detail::log2_e), both = fmaxf(sink, top);
                if (both > nothing) {
                    weight = exp2f(top - both);
                    sum = fmaf(sum, weight, exp2f(sink - both));
                    top = both;
                }
            }
        }
        const bool saw = sum > 0;
        row_result result{saw ? weight / sum : 0.0f, 0.0f,
                          saw ? static_cast<float>((static_cast<double>(top) + static_cast<double>(log2f(sum))) * longspan::cuda::detail::ln_2) : nothing};
        if (merge && mine) {
            const float before = lse(row, head_here), most = fmaxf(before, result.log_sum);
            if (most > nothing) {
                const float both = most + logf(expf(before - most) + expf(result.log_sum - most));
                result.other = expf(before - both);
                result.weight *= expf(result.log_sum - both);
                result.log_sum = both;
            }
        }
        __syncwarp();  // all four lanes have read what one of them replaces
        if constexpr (Score::dropout) result.weight *= n.keep_scale;
        return result;
    }
};

}  // namespace longspan::cuda::hopper::detail
