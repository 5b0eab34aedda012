// SPDX-License-Identifier: Apache-2.0
//
// How a thread block shares the work of attention_key_gradients.cuh: tiles, warps and shared memory; and how its part of dQ joins
// those of the blocks of keys before it.
#pragma once

#include <longspan/cuda/detail/attention_order.cuh>
#include <longspan/cuda/detail/attention_query_gradients.cuh>

namespace longspan::cuda::detail {

/// Whether one kernel could make all three gradients: both sides of the pattern agree, and registers hold it.
template <class Pattern, class F, int HeadDim>
inline constexpr bool together = agreed<Pattern> && sizeof(typename tile::operands<F>::element) == 2 &&
                                 ((HeadDim + 31) / 32 * 32 == 32 || (HeadDim + 31) / 32 * 32 == 64 || (HeadDim + 31) / 32 * 32 == 128);

template <class F, int HeadDim, class Score, int Capacity, bool Together>
struct key_gradient_shape {
    static constexpr bool wide = sizeof(typename tile::operands<F>::element) == 4;
    static constexpr int width = (HeadDim + 31) / 32 * 32;
    static constexpr int row_tiles = !wide && width <= 128 ? 2 : 1;
    static constexpr int key_warps = Together || wide || width > 128 ? 4 : 2, query_warps = 2;
    static constexpr int warps = key_warps * query_warps, threads = 32 * warps;
    static constexpr int warp_keys = 16 * row_tiles, keys = warp_keys * key_warps;
    static constexpr bool roomy = width <= 32 || (width <= 64 && !busy_score<Score> && Capacity <= 4);
    static constexpr int warp_queries = wide ? 16 : Together && roomy ? 64 : 32, queries = warp_queries * query_warps;
    static constexpr int warp_width = width / query_warps;
    static constexpr int resident = Together || wide || width > 128 || (Score::soft_cap && Score::dropout) ? 1 : 2;
    static constexpr int query_stages = width > 128 ? 1 : 2;
    static constexpr int d_out_stages = Together ? 2 : 1;
    // dQ: a warp sums 32 queries by a part of the head.
    static constexpr int dq_query_warps = queries / 32, dq_width = width / (warps / dq_query_warps);
    static_assert(keys == (Together ? long_block : short_block) && (!Together || dq_width % 16 == 0));
};

template <class F, int HeadDim, class Score, int Capacity, bool Together>
struct key_gradient_memory {
    using shape = key_gradient_shape<F, HeadDim, Score, Capacity, Together>;
    using element = typename tile::operands<F>::element;
    using key_tile = tile::shared_tile<element, shape::keys, shape::width>;
    using query_tile = tile::shared_tile<element, shape::queries, shape::width>;
    using map_tile = tile::shared_tile<element, shape::keys, shape::queries>;
    using drawn = drop_bytes<shape::warp_queries, shape::warp_keys>;
    static constexpr int keys = 0, values = key_tile::size, queries = values + key_tile::size;
    static constexpr int d_out = queries + shape::query_stages * query_tile::size, map = d_out + shape::d_out_stages * query_tile::size, d_map = map + map_tile::size;
    static constexpr int statistics = d_map + map_tile::size, statistics_stage = shape::queries * int{sizeof(float2)};
    static constexpr int drop = statistics + shape::query_stages * statistics_stage;
    static constexpr int block = drop + (Score::dropout ? shape::warps * drawn::size : 0);
    static constexpr int others = block + int{sizeof(block_memory<Capacity>)};
    static constexpr int way = others + (Together ? int{sizeof(neighbours<Capacity>)} : 0);
    static constexpr int size = way + int{sizeof(route<Capacity>)};
};

/// Whether one kernel makes all three gradients: where it may, and the target has the shared memory. On an A100 there are two.
template <class Pattern, class F, int HeadDim, class Score>
inline constexpr bool all_together = [] {
    if constexpr (together<Pattern, F, HeadDim>) return key_gradient_memory<F, HeadDim, Score, query_capacity<Pattern>, true>::size <= most_shared_memory;
    else return false;
}();

/// Adds a warp's part of dQ, 32 rows from `row` on by dq_width columns, to the sums in memory; who comes first has nothing to add
/// to, and who comes last turns the sum into the result. Sums lie as lanes hold them, 512 bytes a warp, where the block of
/// queries is whole, and by rows where it is cut.
template <class Shape, int HeadDim, int Blocks, class T, class D, class Arguments>
__device__ __forceinline__ void pass_on(const backward_call<T, D, Arguments>& call, float (&dq)[2][Blocks][4], const tile::thread_place& me, turn now, int head,
                                        index tile_row, int row, int column, int live) {
    const int warp = me.warp, lane = me.lane, g = me.g, t = me.t;
    const bool whole = live == Shape::queries;
    float4* const tile_sums = reinterpret_cast<float4*>(call.dq_sums + (head * call.query_tokens + tile_row) * Shape::width);
    float4* const sums = tile_sums + (whole ? warp * (2 * Blocks * 32) + lane : ((row + g) * Shape::width + column) / 4 + t);
    const int row_step = whole ? Blocks / 2 * 32 : 2 * Shape::width, column_step = whole ? 32 : 4;
    const auto each = [&](auto&& f) {
#pragma unroll
        for (int r = 0; r < 4; ++r) {  // rows 8·r + g
            if (row + 8 * r + g >= live) continue;
#pragma unroll
            for (int d = 0; d < Blocks; d += 2) {
                float(&low)[4] = dq[r / 2][d];
                float(&high)[4] = dq[r / 2][d + 1];
                const int e = r % 2 * 2;
                f(sums + r * row_step + d / 2 * column_step, low[e], low[e + 1], high[e], high[e + 1]);
            }
        }
    };
    if (!now.last) {
        if (now.before < 0) each([](float4* at, float a, float b, float c, float d) { __stcg(at, make_float4(a, b, c, d)); });
        else each([](float4* at, float a, float b, float c, float d) { ptx::add_in_memory(at, make_float4(a, b, c, d)); });
        return;
    }
    if (now.before >= 0) {
        each([](const float4* at, float& a, float& b, float& c, float& d) {
            const float4 before = __ldcg(at);
            a += before.x, b += before.y, c += before.z, d += before.w;
        });
    }
    D* const to = call.dq + (tile_row + row + g) * call.dq_stride + head * HeadDim + column + 2 * t;
#pragma unroll
    for (int r = 0; r < 4; ++r) {
        if (row + 8 * r + g >= live) continue;
#pragma unroll
        for (int d = 0; d < Blocks; ++d) {
            if (column + 8 * d >= HeadDim) continue;
            const float low = dq[r / 2][d][r % 2 * 2] * call.numbers.natural_scale, high = dq[r / 2][d][r % 2 * 2 + 1] * call.numbers.natural_scale;
            store_pair(to + 8 * r * call.dq_stride + 8 * d, low, high);
        }
    }
}

}  // namespace longspan::cuda::detail
