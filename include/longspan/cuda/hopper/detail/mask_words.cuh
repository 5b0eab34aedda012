// SPDX-License-Identifier: Apache-2.0
//
// Which elements of a tile of scores are seen, and which dropout keeps, as bits in shared memory: made by warps that move data, so
// that those which multiply neither test positions nor draw numbers. Row r of a tile has Columns / 32 words side by side.
#pragma once

#include <longspan/core/philox.hpp>
#include <longspan/cuda/ptx/shared.cuh>
#include <longspan/cuda/random_origin.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::hopper::detail {

template <int Rows, int Columns>
struct mask_words {
    static_assert(Columns % 64 == 0 && Columns <= 128);
    static constexpr int per_row = Columns / 32, size = Rows * per_row * 4;

    std::uint32_t base;

    /// `make(row, word)` by `Workers` warps, of which this is number `worker`.
    template <int Workers, class Make>
    __device__ __forceinline__ void fill(int worker, const Make& make) const {
        const int lane = static_cast<int>(threadIdx.x) & 31;
        for (int i = worker * 32 + lane; i < Rows * per_row; i += 32 * Workers) ptx::store(base + static_cast<std::uint32_t>(4 * i), make(i / per_row, i % per_row));
    }

    /// A lane's rows `row` and row + 8 of a tile of wgmma's sums: element 4j + 2h + e lies in row + 8h, column 8j + 2t + e.
    struct lane_bits {
        std::uint32_t word[2][per_row];  ///< shifted so that bits 8i and 8i + 1 are the lane's own columns

        __device__ __forceinline__ static lane_bits all() {
            lane_bits bits;
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
                for (int w = 0; w < per_row; ++w) bits.word[h][w] = ~0u;
            return bits;
        }
        __device__ __forceinline__ bool operator()(int i) const { return word[i / 2 % 2][i / 16] >> (i % 16 / 4 * 8 + i % 2) & 1; }
    };
    __device__ __forceinline__ lane_bits of_lane(int row, int t) const {
        lane_bits bits;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const std::uint32_t at = base + static_cast<std::uint32_t>((row + 8 * h) * per_row * 4);
            if constexpr (per_row == 4) {
                const uint4 words = ptx::load_words(at);
                bits.word[h][0] = words.x >> (2 * t), bits.word[h][1] = words.y >> (2 * t);
                bits.word[h][2] = words.z >> (2 * t), bits.word[h][3] = words.w >> (2 * t);
            } else {
                const float2 words = ptx::load_two_floats(at);
                bits.word[h][0] = __float_as_uint(words.x) >> (2 * t), bits.word[h][1] = __float_as_uint(words.y) >> (2 * t);
            }
        }
        return bits;
    }
};

/// Dropout's bits of one head: counters hold positions modulo 2^32, so 32 bits are enough for them.
struct drop_source {
    philox_key key;
    std::uint32_t document, head, threshold;

    /// Keys [first_key, first_key + 32) of a query, a bit each. A draw serves 16 keys, from a multiple of 16 on.
    __device__ __forceinline__ std::uint32_t keys_of(index query, index first_key) const {
        const std::uint32_t group = static_cast<std::uint32_t>(floor_div(first_key, philox_group));
        const int skipped = static_cast<int>(first_key & (philox_group - 1));
        std::uint64_t bits = 0;
#pragma unroll 1
        for (int i = 0; i < (skipped == 0 ? 2 : 3); ++i) bits |= static_cast<std::uint64_t>(sixteen(static_cast<std::uint32_t>(query), group + i)) << (16 * i);
        return static_cast<std::uint32_t>(bits >> skipped);
    }
    /// Of queries [first_query, first_query + 32) the bits of one key would take a draw each: a warp draws for 16 keys at once, lane l
    /// for query l, and hands out words by ballots. `take(key, word)` by the whole warp.
    template <class Take>
    __device__ __forceinline__ void queries_of(index first_query, index first_key, int keys, const Take& take) const {
        const int lane = static_cast<int>(threadIdx.x) & 31, skipped = static_cast<int>(first_key & (philox_group - 1));
        const std::uint32_t group = static_cast<std::uint32_t>(floor_div(first_key, philox_group));
#pragma unroll 1
        for (int i = 0; 16 * i < keys + skipped; ++i) {
            const std::uint32_t mine = sixteen(static_cast<std::uint32_t>(first_query) + static_cast<std::uint32_t>(lane), group + i);
#pragma unroll
            for (int k = 0; k < 16; ++k) {
                const std::uint32_t word = __ballot_sync(~0u, mine >> k & 1);
                const int at = 16 * i + k - skipped;
                if (at >= 0 && at < keys) take(at, word);
            }
        }
    }

private:
    __device__ __forceinline__ std::uint32_t sixteen(std::uint32_t query, std::uint32_t group) const {
        const philox_block drawn = philox4x32(attention_map_counter(document, head, query, group), key);
        std::uint32_t bits = 0;
#pragma unroll
        for (int i = 0; i < 16; ++i) bits |= ((drawn.word[i / 4] >> (8 * (i % 4)) & 255u) >= threshold ? 1u : 0u) << i;
        return bits;
    }
};

}  // namespace longspan::cuda::hopper::detail
