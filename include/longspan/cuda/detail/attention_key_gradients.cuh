// SPDX-License-Identifier: Apache-2.0
//
// dK and dV on mma.sync: a thread block takes a block of keys of one key/value head and walks the live tiles of queries of every
// head of its group, so that sums stay in registers from beginning to end:
//
//     dV = (P ∘ drop)ᵀ · dO,   dK = dSᵀ · Q,   dS = P ∘ (dP ∘ drop − delta) · scale
//
// Scores stand transposed, [keys][queries]. A warp makes 16 or 32 keys by half of the queries; P and dS pass through shared
// memory, and each warp sums its keys' gradients over half of the head.
#pragma once

#include <longspan/cuda/detail/attention_query_gradients.cuh>

namespace longspan::cuda::detail {

template <class F, int HeadDim>
struct key_gradient_shape {
    static constexpr bool wide = sizeof(typename tile::operands<F>::element) == 4;
    static constexpr int width = (HeadDim + 31) / 32 * 32;
    static constexpr int row_tiles = !wide && width <= 128 ? 2 : 1;
    static constexpr int key_warps = wide || width > 128 ? 4 : 2, query_warps = 2;
    static constexpr int warps = key_warps * query_warps, threads = 32 * warps;
    static constexpr int warp_keys = 16 * row_tiles, keys = warp_keys * key_warps;
    static constexpr int warp_queries = 32, queries = warp_queries * query_warps;
    static constexpr int warp_width = width / query_warps;
    static constexpr int resident = wide || width > 128 ? 1 : width > 64 ? 2 : 3;
    static constexpr int query_stages = wide && width > 128 ? 1 : 2;
    static_assert(keys == short_block);
};

template <class F, int HeadDim, class Score, int Capacity>
struct key_gradient_memory {
    using shape = key_gradient_shape<F, HeadDim>;
    using element = typename tile::operands<F>::element;
    using key_tile = tile::shared_tile<element, shape::keys, shape::width>;
    using query_tile = tile::shared_tile<element, shape::queries, shape::width>;
    using map_tile = tile::shared_tile<element, shape::keys, shape::queries>;
    using drawn = drop_bytes<shape::warp_queries, shape::warp_keys>;
    static constexpr int keys = 0, values = key_tile::size, queries = values + key_tile::size;
    static constexpr int d_out = queries + shape::query_stages * query_tile::size, map = d_out + query_tile::size, d_map = map + map_tile::size;
    static constexpr int statistics = d_map + map_tile::size, statistics_stage = shape::queries * int{sizeof(float2)};
    static constexpr int drop = statistics + shape::query_stages * statistics_stage;
    static constexpr int block = drop + (Score::dropout ? shape::warps * drawn::size : 0);
    static constexpr int size = block + int{sizeof(block_memory<Capacity>)};
};

template <class Pattern, int HeadDim, class Score, class F, class T, class D>
__global__ void __launch_bounds__(key_gradient_shape<F, HeadDim>::threads, key_gradient_shape<F, HeadDim>::resident)
    attention_key_gradients(const __grid_constant__ backward_call<T, D, typename Pattern::arguments> c) {
    using shape = key_gradient_shape<F, HeadDim>;
    using ops = tile::operands<F>;
    constexpr int capacity = query_capacity<Pattern>;
    using memory = key_gradient_memory<F, HeadDim, Score, capacity>;
    constexpr int row_tiles = shape::row_tiles, query_blocks = shape::warp_queries / 8, width_blocks = shape::warp_width / 8, depth = ops::depth;
    extern __shared__ __align__(16) unsigned char shared[];

    const attention_block block = c.key_blocks[1 + blockIdx.x];
    if (block.segment < 0) return;
    const index key_head = blockIdx.y, first_row = static_cast<index>(block.block) * shape::keys;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = tile::lane_id(), g = lane / 4, t = lane % 4;
    const int warp_key = warp / shape::query_warps * shape::warp_keys, side = warp % shape::query_warps;
    const int warp_query = side * shape::warp_queries, warp_column = side * shape::warp_width;
    const std::uint32_t base = ptx::shared_address(shared);
    const typename memory::key_tile key_tile{base + memory::keys}, value_tile{base + memory::values};
    const typename memory::query_tile d_out_tile{base + memory::d_out};
    const typename memory::map_tile map_tile{base + memory::map}, d_map_tile{base + memory::d_map};
    auto& kept = *reinterpret_cast<block_memory<capacity>*>(shared + memory::block);
    const attention_segment& s = kept.segment;
    int live_keys;
    {
        const attention_segment from = c.segments[block.segment];
        live_keys = static_cast<int>(from.key_count - first_row < shape::keys ? from.key_count - first_row : shape::keys);
        const index row = from.key_begin + first_row;
        tile::copy_rows<shape::threads, HeadDim>(key_tile, c.keys + row * c.key_stride + key_head * HeadDim, c.key_stride, live_keys);
        tile::copy_rows<shape::threads, HeadDim>(value_tile, c.values + row * c.value_stride + key_head * HeadDim, c.value_stride, live_keys);
        if (threadIdx.x == 0) {
            const index first_key = from.key_position + first_row;
            kept.segment = from;
            kept.runs.fill(query_runs<Pattern>(c.arguments(), from.ordinal, {first_key, first_key + live_keys},
                                               {from.query_position, from.query_position + from.query_count}, shape::queries));
        }
    }
    __syncthreads();

    const auto live_of = [&](int at) {
        const index left = s.query_count - static_cast<index>(at) * shape::queries;
        return static_cast<int>(left < shape::queries ? left : shape::queries);
    };
    const auto copy_queries = [&](int stage, int at, index head) {
        const index row = s.query_begin + static_cast<index>(at) * shape::queries;
        const int live = live_of(at);
        tile::copy_rows<shape::threads, HeadDim>(typename memory::query_tile{base + memory::queries + stage * memory::query_tile::size},
                                                 c.queries + row * c.query_stride + head * HeadDim, c.query_stride, live);
        const int i = static_cast<int>(threadIdx.x);
        if (i < shape::queries) {
            const float2* const from = c.statistics + head * c.query_tokens + row;
            ptx::copy_8(base + memory::statistics + stage * memory::statistics_stage + i * 8, i < live ? from + i : from, i < live);
        }
    };
    const auto copy_d_out = [&](int at, index head) {
        const index row = s.query_begin + static_cast<index>(at) * shape::queries;
        tile::copy_rows<shape::threads, HeadDim>(d_out_tile, c.d_out + row * c.d_out_stride + head * HeadDim, c.d_out_stride, live_of(at));
    };
    const index heads_end = (key_head + 1) * c.group;
    index head = key_head * c.group;
    auto at = run_place<capacity>::begin(kept.runs);
    if (at.live) copy_queries(0, at.tile, head), copy_d_out(at.tile, head);
    ptx::commit_copies();

    philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();
    const auto own_keys = key_tile.from_row(warp_key), own_values = value_tile.from_row(warp_key);
    const auto own_map = map_tile.from_row(warp_key), own_d_map = d_map_tile.from_row(warp_key);
    float dk[row_tiles][width_blocks][4] = {}, dv[row_tiles][width_blocks][4] = {};

    for (int stage = 0; at.live; stage = (stage + 1) % shape::query_stages) {
        const score_rule<Score, F> rule(c.numbers, head);
        const float factor = rule.factor();
        auto next = at;
        index next_head = head;
        next.advance(kept.runs);
        if (!next.live && ++next_head < heads_end) next = run_place<capacity>::begin(kept.runs);
        ptx::wait_copies<0>();
        __syncthreads();  // queries and dO are here, and nobody reads the last ones nor the last map
        if (shape::query_stages > 1) {
            if (next.live) copy_queries((stage + 1) % shape::query_stages, next.tile, next_head);
            ptx::commit_copies();
        }
        const typename memory::query_tile query_tile{base + memory::queries + stage * memory::query_tile::size};

        float score[row_tiles][query_blocks][4] = {}, dp[row_tiles][query_blocks][4] = {};
#pragma unroll
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left k[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) k[m] = ops::load_left(own_keys, 16 * m, d);
#pragma unroll
            for (int n = 0; n < query_blocks; n += 2) {
                const typename ops::right q = ops::load_right(query_tile, warp_query + 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(score[m][n], k[m], q, 0);
                    ops::multiply(score[m][n + 1], k[m], q, 1);
                }
            }
        }
#pragma unroll
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left v[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) v[m] = ops::load_left(own_values, 16 * m, d);
#pragma unroll
            for (int n = 0; n < query_blocks; n += 2) {
                const typename ops::right o = ops::load_right(d_out_tile, warp_query + 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dp[m][n], v[m], o, 0);
                    ops::multiply(dp[m][n + 1], v[m], o, 1);
                }
            }
        }

        const index query_position = s.query_position + static_cast<index>(at.tile) * shape::queries + warp_query;
        const index first_key = s.key_position + first_row;
        const bool tested = at.partial;
        row_masks<shape::warp_keys, 1> masks;
        if (tested) masks.word[0] = Pattern::query_bits(c.arguments(), s.ordinal, first_key + warp_key + lane % shape::warp_keys, query_position);
        typename memory::drawn drawn;
        if constexpr (Score::dropout) {
            drawn.draw(base + memory::drop + warp * memory::drawn::size, drop_key, s.document, head, query_position, first_key + warp_key);
        }
        const int apart = static_cast<int>(query_position - first_key - warp_key) - g + 2 * t;
        const std::uint32_t statistics = base + memory::statistics + stage * memory::statistics_stage + (warp_query + 2 * t) * 8;
#pragma unroll
        for (int n = 0; n < query_blocks; ++n) {
            const float2 of_query[2] = {tile::read_pair(statistics + n * 64), tile::read_pair(statistics + n * 64 + 8)};
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    std::uint32_t seen = ~0u;
                    if (tested) seen = masks.of(16 * m + 8 * h + g, 0) >> (8 * n + 2 * t);
                    float dropped[2], ds[2];
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        float x = score[m][n][2 * h + i], slope = rule.natural_scale;
                        if constexpr (!score_rule<Score, F>::plain) {
                            x = rule.capped(x);
                            slope = rule.derivative(x);
                            x = rule.placed(x, static_cast<float>(apart + 8 * n + i - 16 * m - 8 * h));
                        }
                        float p = ptx::exp2_fast(fmaf(x, factor, -of_query[i].x));
                        if (tested) p = seen >> i & 1 ? p : 0.0f;
                        float given = dp[m][n][2 * h + i];
                        dropped[i] = p;
                        if constexpr (Score::dropout) {
                            const float keep = drawn.of(8 * n + 2 * t + i, 16 * m + 8 * h + g) >= c.numbers.drop_threshold ? c.numbers.keep_scale : 0.0f;
                            dropped[i] *= keep;
                            given *= keep;
                        }
                        ds[i] = p * (given - of_query[i].y) * slope;
                    }
                    ops::write(own_map.at(16 * m + 8 * h + g, warp_query + 8 * n + 2 * t), dropped[0], dropped[1]);
                    ops::write(own_d_map.at(16 * m + 8 * h + g, warp_query + 8 * n + 2 * t), ds[0], ds[1]);
                }
            }
        }
        __syncthreads();  // the maps are here

#pragma unroll
        for (int q = 0; q < shape::queries; q += depth) {
            typename ops::left p[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) p[m] = ops::load_left(own_map, 16 * m, q);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right o = ops::load_right_transposed(d_out_tile, q, warp_column + 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dv[m][d], p[m], o, 0);
                    ops::multiply(dv[m][d + 1], p[m], o, 1);
                }
            }
        }
        __syncthreads();  // nobody reads this dO any more
        if (next.live) copy_d_out(next.tile, next_head);
        ptx::commit_copies();
#pragma unroll
        for (int q = 0; q < shape::queries; q += depth) {
            typename ops::left p[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) p[m] = ops::load_left(own_d_map, 16 * m, q);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right b = ops::load_right_transposed(query_tile, q, warp_column + 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dk[m][d], p[m], b, 0);
                    ops::multiply(dk[m][d + 1], p[m], b, 1);
                }
            }
        }
        if (shape::query_stages == 1) {
            __syncthreads();
            if (next.live) copy_queries(0, next.tile, next_head);
            ptx::commit_copies();
        }
        at = next;
        head = next_head;
    }
    ptx::wait_copies<0>();

#pragma unroll
    for (int m = 0; m < row_tiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = warp_key + 16 * m + 8 * h + g;
            if (row >= live_keys) continue;
            const index column = key_head * HeadDim + warp_column + 2 * t;
            D* const to_k = c.dk + (s.key_begin + first_row + row) * c.dk_stride + column;
            D* const to_v = c.dv + (s.key_begin + first_row + row) * c.dv_stride + column;
#pragma unroll
            for (int d = 0; d < width_blocks; ++d) {
                if (warp_column + 8 * d >= HeadDim) continue;
                store_pair(to_k + 8 * d, dk[m][d][2 * h], dk[m][d][2 * h + 1], c.add_keys);
                store_pair(to_v + 8 * d, dv[m][d][2 * h], dv[m][d][2 * h + 1], c.add_keys);
            }
        }
}

}  // namespace longspan::cuda::detail
