// SPDX-License-Identifier: Apache-2.0
//
// What tensor cores read, per operand format: fragments of a warp's products, loaded from shared tiles as they stand or
// transposed, or made from the sums of another product; `operands<F>` for F in bf16, fp16, tf32_format, float.
//
//     bf16, fp16     one product of depth 16
//     tf32_format    one product of depth 8, operands rounded to tf32 as they are read
//     float          x = high + low in tf32: low·high + high·low + high·high, added to a sum in float by the ordinary adders, since
//                    those of tensor cores cut bits off (Ootomo & Yokota, arXiv:2203.03341)
//
// In depth 8 a product's index t stands for element 2t and t + 4 for 2t + 1, on both sides: so sums are operands as they lie.
#pragma once

#include <concepts>
#include <cstdint>

#include <longspan/cuda/ptx/convert.cuh>
#include <longspan/cuda/ptx/ldmatrix.cuh>
#include <longspan/cuda/ptx/mma.cuh>
#include <longspan/cuda/ptx/shared.cuh>
#include <longspan/cuda/tile/shared_tile.cuh>
#include <longspan/precision/format.hpp>

namespace longspan::cuda::tile {

__device__ __forceinline__ int lane_id() { return static_cast<int>(threadIdx.x) & 31; }

template <class F>
struct operands;

template <class F>
    requires(std::same_as<F, bf16> || std::same_as<F, fp16>)
struct operands<F> {
    using element = F;
    static constexpr int depth = 16;
    struct left {
        std::uint32_t word[4];  ///< [16, depth]
    };
    struct right {
        std::uint32_t word[2][2];  ///< [depth, 16]: two blocks of 8 columns
    };

    __device__ __forceinline__ static std::uint32_t pack(float low, float high) {
        if constexpr (std::same_as<F, bf16>) return ptx::pack_bf16(low, high);
        else return ptx::pack_fp16(low, high);
    }
    __device__ __forceinline__ static void multiply(float (&c)[4], const left& a, const right& b, int block) {
        if constexpr (std::same_as<F, bf16>) ptx::mma_bf16(c, a.word, b.word[block]);
        else ptx::mma_fp16(c, a.word, b.word[block]);
    }
    /// A tile as this lane reads it: the loads below take tiles that went through their view. First [rows of a, depth], then
    /// [depth, rows of a], [columns of b, depth], [depth, columns of b].
    template <class Tile>
    __device__ __forceinline__ static Tile left_view(Tile tile, int lane) {
        return tile.from(lane % 16, lane / 16 * 8);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile left_transposed_view(Tile tile, int lane) {
        return tile.from(lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile right_view(Tile tile, int lane) {
        return tile.from(lane % 8 + lane / 16 * 8, lane / 8 % 2 * 8);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile right_transposed_view(Tile tile, int lane) {
        return tile.from(lane % 16, lane / 16 * 8);
    }
    template <class Tile>
    __device__ __forceinline__ static left load_left(Tile view, int row, int at) {
        left a;
        ptx::load_matrices(a.word, view.at(row, at));
        return a;
    }
    template <class Tile>
    __device__ __forceinline__ static left load_left_transposed(Tile view, int at, int row) {
        left a;
        ptx::load_matrices_transposed(a.word, view.at(at, row));
        return a;
    }
    template <class Tile>
    __device__ __forceinline__ static right load_right(Tile view, int column, int at) {
        std::uint32_t word[4];
        ptx::load_matrices(word, view.at(column, at));
        return {{{word[0], word[1]}, {word[2], word[3]}}};
    }
    template <class Tile>
    __device__ __forceinline__ static right load_right_transposed(Tile view, int at, int column) {
        std::uint32_t word[4];
        ptx::load_matrices_transposed(word, view.at(at, column));
        return {{{word[0], word[1]}, {word[2], word[3]}}};
    }
    /// Columns [depth·i, + depth) of sums, rounded.
    template <int Blocks>
    __device__ __forceinline__ static left from_sums(const float (&c)[Blocks][4], int i) {
        const float(&low)[4] = c[2 * i];
        const float(&high)[4] = c[2 * i + 1];
        return {{pack(low[0], low[1]), pack(low[2], low[3]), pack(high[0], high[1]), pack(high[2], high[3])}};
    }
    /// Writes a pair of a row, rounded.
    __device__ __forceinline__ static void write(std::uint32_t at, float low, float high) { ptx::store(at, pack(low, high)); }
};

template <class F>
    requires(std::same_as<F, tf32_format> || std::same_as<F, float>)
struct operands<F> {
    using element = float;
    static constexpr int depth = 8;
    static constexpr bool parts = std::same_as<F, float>;
    struct split {
        std::uint32_t high, low;
    };
    struct left {
        split word[4];
    };
    struct right {
        split word[2][2];
    };

    __device__ __forceinline__ static split take(float value) {
        split made{ptx::round_tf32(value), 0};
        if constexpr (parts) made.low = ptx::round_tf32(value - __uint_as_float(made.high));
        return made;
    }
    __device__ __forceinline__ static void multiply(float (&c)[4], const left& a, const right& b, int block) {
        const std::uint32_t a_high[4] = {a.word[0].high, a.word[1].high, a.word[2].high, a.word[3].high};
        const std::uint32_t b_high[2] = {b.word[block][0].high, b.word[block][1].high};
        if constexpr (parts) {
            const std::uint32_t a_low[4] = {a.word[0].low, a.word[1].low, a.word[2].low, a.word[3].low};
            const std::uint32_t b_low[2] = {b.word[block][0].low, b.word[block][1].low};
            float sum[4] = {0, 0, 0, 0};
            ptx::mma_tf32(sum, a_low, b_high);
            ptx::mma_tf32(sum, a_high, b_low);
            ptx::mma_tf32(sum, a_high, b_high);
            for (int i = 0; i < 4; ++i) c[i] += sum[i];
        } else {
            ptx::mma_tf32(c, a_high, b_high);
        }
    }
    template <class Tile>
    __device__ __forceinline__ static Tile left_view(Tile tile, int lane) {
        return tile.from(lane / 4, lane % 4 * 2);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile left_transposed_view(Tile tile, int lane) {
        return tile.from(lane % 4 * 2, lane / 4);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile right_view(Tile tile, int lane) {
        return left_view(tile, lane);
    }
    template <class Tile>
    __device__ __forceinline__ static Tile right_transposed_view(Tile tile, int lane) {
        return left_transposed_view(tile, lane);
    }
    template <class Tile>
    __device__ __forceinline__ static left load_left(Tile view, int row, int at) {
        const float2 upper = ptx::load_two_floats(view.at(row, at)), lower = ptx::load_two_floats(view.at(row + 8, at));
        return {{take(upper.x), take(lower.x), take(upper.y), take(lower.y)}};
    }
    template <class Tile>
    __device__ __forceinline__ static left load_left_transposed(Tile view, int at, int row) {
        const std::uint32_t first = view.at(at, row), next = view.at(at + 1, row);
        return {{take(ptx::load_float(first)), take(ptx::load_float(first + 32)), take(ptx::load_float(next)), take(ptx::load_float(next + 32))}};
    }
    template <class Tile>
    __device__ __forceinline__ static right load_right(Tile view, int column, int at) {
        const float2 first = ptx::load_two_floats(view.at(column, at)), second = ptx::load_two_floats(view.at(column + 8, at));
        return {{{take(first.x), take(first.y)}, {take(second.x), take(second.y)}}};
    }
    template <class Tile>
    __device__ __forceinline__ static right load_right_transposed(Tile view, int at, int column) {
        const std::uint32_t first = view.at(at, column), next = view.at(at + 1, column);
        return {{{take(ptx::load_float(first)), take(ptx::load_float(next))}, {take(ptx::load_float(first + 32)), take(ptx::load_float(next + 32))}}};
    }
    template <int Blocks>
    __device__ __forceinline__ static left from_sums(const float (&c)[Blocks][4], int i) {
        return {{take(c[i][0]), take(c[i][2]), take(c[i][1]), take(c[i][3])}};
    }
    __device__ __forceinline__ static void write(std::uint32_t at, float low, float high) { ptx::store(at, make_float2(low, high)); }
};

}  // namespace longspan::cuda::tile
