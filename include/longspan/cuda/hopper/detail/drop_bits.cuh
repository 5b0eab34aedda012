// SPDX-License-Identifier: Apache-2.0
//
// Which of a lane's scores dropout keeps, a bit each, drawn before the scores are needed. A draw of Philox serves 16 keys of one
// query (core/philox.hpp): lanes that hold other elements of a draw get it by shuffles. Keys that do not begin at a multiple of 16
// are drawn one by one.
#pragma once

#include <longspan/core/philox.hpp>
#include <longspan/cuda/ptx/afresh.cuh>
#include <longspan/cuda/random_origin.hpp>

namespace longspan::cuda::hopper::detail {

/// What a drawn bit depends on, but for its query and key. Counters hold positions modulo 2^32, so 32 bits are enough for both.
struct drop_source {
    philox_key key;
    std::uint32_t document, head, threshold;

    drop_source() = default;
    __device__ __forceinline__ drop_source(const philox_key& key_, index document_, int head_, std::uint32_t threshold_)
        : key(key_), document(static_cast<std::uint32_t>(document_)), head(static_cast<std::uint32_t>(head_)), threshold(threshold_) {}

    __device__ __forceinline__ philox_block draw(std::uint32_t query, std::uint32_t group) const {
        // As if new each time: or the keys of all rounds would stay in 20 registers.
        return philox4x32(attention_map_counter(document, head, query, group), {{ptx::afresh(key.word[0]), ptx::afresh(key.word[1])}});
    }
    /// Key `skipped` behind the first of a group.
    __device__ __forceinline__ bool keeps(std::uint32_t query, std::uint32_t group, int skipped) const {
        const philox_block drawn = draw(query, group + static_cast<std::uint32_t>(skipped / 16));
        const int at = skipped % 16;
        const std::uint32_t low = at & 4 ? drawn.word[1] : drawn.word[0], high = at & 4 ? drawn.word[3] : drawn.word[2];
        return ((at & 8 ? high : low) >> (8 * (at & 3)) & 255u) >= threshold;
    }
};

/// For Scores scores a lane, laid out as wgmma's sums: element 4j + 2h + e at row g + 8h, column 8j + 2t + e.
template <int Scores>
struct drop_bits {
    std::uint32_t word[Scores / 32] = {};

    __device__ __forceinline__ bool keeps(int i) const { return (word[i / 32] >> (i % 32) & 1u) != 0; }

    /// Rows are queries, `query` that of row g; columns are keys from `first_key` on.
    __device__ __forceinline__ void draw_rows(const drop_source& from, index first_row, index first_key) {
        const int lane = static_cast<int>(threadIdx.x) & 31, t = lane & 3;
        const std::uint32_t query = static_cast<std::uint32_t>(first_row), group = static_cast<std::uint32_t>(floor_div(first_key, philox_group));
        const int skipped = static_cast<int>(first_key & (philox_group - 1));
        if (skipped != 0) {
            one_by_one([&](int i) { return from.keeps(query + i / 2 % 2 * 8, group, skipped + i / 4 * 8 + 2 * t + i % 2); });
            return;
        }
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int part = 0; part < Scores / 32; ++part) {
                const philox_block drawn = from.draw(query + 8 * h, group + 4 * part + t);
#pragma unroll
                for (int i = 0; i < 4; ++i) {
                    std::uint32_t word_of[4];
#pragma unroll
                    for (int w = 0; w < 4; ++w) word_of[w] = __shfl_sync(~0u, drawn.word[w], (lane & 28) + i);
#pragma unroll
                    for (int j = 0; j < 2; ++j) {
                        const std::uint32_t bytes = (t & 2 ? word_of[2 * j + 1] : word_of[2 * j]) >> (t % 2 * 16);
#pragma unroll
                        for (int e = 0; e < 2; ++e) enter(4 * (2 * (4 * part + i) + j) + 2 * h + e, (bytes >> (8 * e) & 255u) >= from.threshold);
                    }
                }
            }
    }
    /// Columns are queries from `first_query` on; rows are keys, `warp_key` that of the warp's first.
    __device__ __forceinline__ void draw_columns(const drop_source& from, index first_column, index warp_key) {
        const int lane = static_cast<int>(threadIdx.x) & 31, t = lane & 3, g = lane >> 2;
        const std::uint32_t first_query = static_cast<std::uint32_t>(first_column), group = static_cast<std::uint32_t>(floor_div(warp_key, philox_group));
        const int skipped = static_cast<int>(warp_key & (philox_group - 1));
        if (skipped != 0) {
            one_by_one([&](int i) { return from.keeps(first_query + i / 4 * 8 + 2 * t + i % 2, group, skipped + g + i / 2 % 2 * 8); });
            return;
        }
#pragma unroll
        for (int part = 0; part < Scores / 16; ++part) {
            const philox_block drawn = from.draw(first_query + 32 * part + lane, group);
#pragma unroll
            for (int i = 0; i < 8; ++i) {
                std::uint32_t word_of[4];
#pragma unroll
                for (int w = 0; w < 4; ++w) word_of[w] = __shfl_sync(~0u, drawn.word[w], i / 2 * 8 + 2 * t + i % 2);
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    const std::uint32_t bytes = g & 4 ? word_of[2 * h + 1] : word_of[2 * h];
                    enter(4 * (4 * part + i / 2) + 2 * h + i % 2, (bytes >> (8 * (g & 3)) & 255u) >= from.threshold);
                }
            }
        }
    }

private:
    template <class Keeps>
    __device__ __forceinline__ void one_by_one(const Keeps& keeps_it) {
#pragma unroll
        for (int w = 0; w < Scores / 32; ++w) {
            std::uint32_t bits = 0;
#pragma unroll 1
            for (int i = 0; i < 32; ++i) bits |= (keeps_it(32 * w + i) ? 1u : 0u) << i;
            word[w] = bits;
        }
    }
    __device__ __forceinline__ void enter(int i, bool keep) { word[i / 32] |= (keep ? 1u : 0u) << (i % 32); }
};

}  // namespace longspan::cuda::hopper::detail
