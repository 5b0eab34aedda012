// SPDX-License-Identifier: Apache-2.0
//
// Which elements of a tile of scores are seen, and which dropout keeps, as bits in shared memory: made by warps that move data, so
// that those which multiply neither test positions nor draw numbers. Row r of a tile has Columns / 32 words side by side.
#pragma once

#include <longspan/core/philox.hpp>
#include <longspan/cuda/ptx/afresh.cuh>
#include <longspan/cuda/ptx/convert.cuh>
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

// What dropout keeps. A draw serves 16 keys of one query, from a multiple of 16 on; its bits stay where comparing four bytes at once
// leaves them, that of key i at 8·(i mod 4) + i / 4, so that two draws share a word and a lane finds its own by one shift.

/// Dropout's numbers of one head: counters hold positions modulo 2^32, so 32 bits are enough for them.
struct drop_source {
    philox_key key;
    std::uint32_t document, head;
    std::uint32_t added, always;  ///< to each of four bytes: who is to be kept overflows; or all are kept

    drop_source() = default;
    __device__ __forceinline__ drop_source(const philox_key& key_, index document_, int head_, std::uint32_t threshold)
        : key(key_), document(static_cast<std::uint32_t>(document_)), head(static_cast<std::uint32_t>(head_)), added((256 - threshold & 255) * 0x01010101u),
          always(threshold == 0 ? ~0u : 0u) {}

    /// Of queries [query, query + Queries): keys [first_key + 16·g, … + 16), for g < Groups. Rounds in a row: words change places in each,
    /// and are back after two, which saves moves but takes registers.
    template <int Rounds, int Queries, int Groups>
    __device__ __forceinline__ void draw(index query, index first_key, std::uint32_t (&bits)[Queries][Groups]) const {
        const std::uint32_t group = static_cast<std::uint32_t>(floor_div(first_key, philox_group)), at = static_cast<std::uint32_t>(query);
        const int skipped = static_cast<int>(first_key & (philox_group - 1));
        sixteen<Rounds>(at, group, bits);
        if (skipped > 0) {
            std::uint32_t more[Queries][1];
            sixteen<Rounds>(at, group + Groups, more);
#pragma unroll
            for (int q = 0; q < Queries; ++q)
#pragma unroll
                for (int g = 0; g < Groups; ++g) {
                    const std::uint32_t next = g + 1 < Groups ? bits[q][(g + 1) % Groups] : more[q][0];
                    bits[q][g] = spread((in_order(bits[q][g]) | in_order(next) << 16) >> skipped & 0xFFFFu);
                }
        }
    }

private:
    /// All draws side by side, a round of each after the other: one alone would wait for its own products most of the time.
    template <int Rounds, int Queries, int Groups>
    __device__ __forceinline__ void sixteen(std::uint32_t query, std::uint32_t group, std::uint32_t (&bits)[Queries][Groups]) const {
        philox_block drawn[Queries][Groups];
#pragma unroll
        for (int q = 0; q < Queries; ++q)
#pragma unroll
            for (int g = 0; g < Groups; ++g) drawn[q][g] = attention_map_counter(document, head, query + q, group + g);
        philox_key now = key;
#pragma unroll Rounds
        for (int round = 0; round < 10; ++round, now = next_key({{ptx::afresh(now.word[0]), ptx::afresh(now.word[1])}}))
#pragma unroll
            for (int q = 0; q < Queries; ++q)
#pragma unroll
                for (int g = 0; g < Groups; ++g) philox_round(drawn[q][g], now);
        // A byte of at least the threshold is kept: then byte + (256 − threshold) carries out of its eight bits.
#pragma unroll
        for (int q = 0; q < Queries; ++q)
#pragma unroll
            for (int g = 0; g < Groups; ++g) {
                std::uint32_t kept = always & 0x0F0F0F0Fu;
#pragma unroll
                for (int w = 0; w < 4; ++w) {
                    const std::uint32_t word = drawn[q][g].word[w], sum = (word & 0x7F7F7F7Fu) + (added & 0x7F7F7F7Fu);
                    kept |= ((word & added) | ((word | added) & sum)) >> (7 - w) & 0x01010101u << w;
                }
                bits[q][g] = kept;
            }
    }
    /// Exchanges rows and columns of 4 × 4 bits.
    __device__ __forceinline__ static std::uint32_t transposed(std::uint32_t x) {
        const std::uint32_t near = (x ^ x >> 3) & 0x0A0Au;
        x ^= near ^ near << 3;
        const std::uint32_t far = (x ^ x >> 6) & 0x00CCu;
        return x ^ far ^ far << 6;
    }
    __device__ __forceinline__ static std::uint32_t in_order(std::uint32_t x) {
        return transposed((x & 0xFu) | (x >> 4 & 0xF0u) | (x >> 8 & 0xF00u) | (x >> 12 & 0xF000u));
    }
    __device__ __forceinline__ static std::uint32_t spread(std::uint32_t x) {
        x = transposed(x);
        return (x & 0xFu) | (x & 0xF0u) << 4 | (x & 0xF00u) << 8 | (x & 0xF000u) << 12;
    }
};

/// Of a tile whose rows are queries and columns keys: 32 keys of a query in a word.
template <int Queries, int Keys>
struct kept_rows {
    using words = mask_words<Queries, Keys>;
    static constexpr int size = words::size;

    std::uint32_t base;

    /// By `Workers` warps, of which this is number `worker`.
    template <int Workers>
    __device__ __forceinline__ void fill(const drop_source& from, index first_query, index first_key, int worker) const {
        constexpr int parts = Keys / 64;
        const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll 1
        for (int i = worker * 32 + lane; i < Queries * parts; i += 32 * Workers) {
            std::uint32_t bits[1][4];
            from.template draw<2>(first_query + i / parts, first_key + i % parts * 64, bits);
            ptx::store(base + static_cast<std::uint32_t>(8 * i), make_uint2(bits[0][0] | bits[0][1] << 4, bits[0][2] | bits[0][3] << 4));
        }
    }
    /// Rows `row` and row + 8, as mask_words::lane_bits.
    struct lane_bits {
        std::uint32_t word[2][words::per_row];
        /// Both elements 2i and 2i + 1, as a mask of a pair of two-byte numbers.
        __device__ __forceinline__ std::uint32_t of_pair(int i) const {
            return ptx::halves_by_sign(word[i % 2][i / 8] << (7 - i / 2 % 4 * 2));
        }
    };
    __device__ __forceinline__ lane_bits of_lane(int row, int t) const {
        lane_bits bits;
        const auto raw = words{base}.of_lane(row, 0);
#pragma unroll
        for (int h = 0; h < 2; ++h)
#pragma unroll
            for (int w = 0; w < words::per_row; ++w) bits.word[h][w] = raw.word[h][w] >> (t % 2 * 16 + t / 2);
        return bits;
    }
};

/// Of a tile whose rows are keys and columns queries: 16 keys of a query and the next in a word.
template <int Keys, int Queries>
struct kept_columns {
    static constexpr int size = Keys / 16 * Queries * 2;

    std::uint32_t base;

    template <int Workers>
    __device__ __forceinline__ void fill(const drop_source& from, index first_query, index first_key, int worker) const {
        const int lane = static_cast<int>(threadIdx.x) & 31;
#pragma unroll 1
        for (int i = worker * 32 + lane; i < Queries / 2 * (Keys / 32); i += 32 * Workers) {
            const int groups = i / (Queries / 2) * 2, pair = i % (Queries / 2);
            std::uint32_t bits[2][2];
            from.template draw<1>(first_query + 2 * pair, first_key + 16 * groups, bits);
#pragma unroll
            for (int g = 0; g < 2; ++g) ptx::store(base + static_cast<std::uint32_t>(((groups + g) * (Queries / 2) + pair) * 4), bits[0][g] | bits[1][g] << 4);
        }
    }
    /// Elements 4j + 2h + e of sixteen queries: keys g and g + 8 of a warp's 16, queries 2t and 2t + 1 of each 8.
    struct sixteen {
        std::uint32_t word[2];
        __device__ __forceinline__ bool operator()(int i) const { return word[i / 4] >> (i / 2 % 2 * 2 + i % 2 * 4) & 1; }
    };
    struct lane_place {
        std::uint32_t at;
        int shift;
        __device__ __forceinline__ sixteen of(int k) const {
            return {{ptx::load_word(at + static_cast<std::uint32_t>(k * 32)) >> shift, ptx::load_word(at + static_cast<std::uint32_t>(k * 32 + 16)) >> shift}};
        }
    };
    /// `group`: of the warp's keys in the tile.
    __device__ __forceinline__ lane_place of_lane(int group, int g, int t) const {
        return {base + static_cast<std::uint32_t>((group * (Queries / 2) + t) * 4), g % 4 * 8 + g / 4};
    }
};

}  // namespace longspan::cuda::hopper::detail
