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

#include <longspan/cuda/detail/attention_order.cuh>
#include <longspan/cuda/detail/attention_query_gradients.cuh>
#include <longspan/cuda/ptx/barrier.cuh>

namespace longspan::cuda::detail {

/// Whether one kernel makes all three gradients: where both sides of the pattern agree, and registers hold it.
template <class Pattern, class F, int HeadDim>
inline constexpr bool together = agreed<Pattern> && sizeof(typename tile::operands<F>::element) == 2 &&
                                 ((HeadDim + 31) / 32 * 32 == 32 || (HeadDim + 31) / 32 * 32 == 64 || (HeadDim + 31) / 32 * 32 == 128);

template <class F, int HeadDim, bool Together>
struct key_gradient_shape {
    static constexpr bool wide = sizeof(typename tile::operands<F>::element) == 4;
    static constexpr int width = (HeadDim + 31) / 32 * 32;
    static constexpr int row_tiles = !wide && width <= 128 ? 2 : 1;
    static constexpr int key_warps = Together || wide || width > 128 ? 4 : 2, query_warps = 2;
    static constexpr int warps = key_warps * query_warps, threads = 32 * warps;
    static constexpr int warp_keys = 16 * row_tiles, keys = warp_keys * key_warps;
    static constexpr int warp_queries = wide ? 16 : Together && width <= 64 ? 64 : 32, queries = warp_queries * query_warps;
    static constexpr int warp_width = width / query_warps;
    static constexpr int resident = Together || wide || width > 128 ? 1 : width > 64 ? 2 : 3;
    static constexpr int query_stages = width > 128 ? 1 : 2;
    static constexpr int d_out_stages = Together ? 2 : 1;
    // dQ: a warp sums 32 queries by a part of the head.
    static constexpr int dq_query_warps = queries / 32, dq_width = width / (warps / dq_query_warps);
    static_assert(keys == (Together ? long_block : short_block) && (!Together || dq_width % 16 == 0));
};

template <class F, int HeadDim, class Score, int Capacity, bool Together>
struct key_gradient_memory {
    using shape = key_gradient_shape<F, HeadDim, Together>;
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
    static constexpr int size = others + (Together ? int{sizeof(neighbours<Capacity>)} : 0);
};

template <class Pattern, int HeadDim, class Score, class F, class T, class D, bool Together>
__global__ void __launch_bounds__(key_gradient_shape<F, HeadDim, Together>::threads, key_gradient_shape<F, HeadDim, Together>::resident)
    attention_key_gradients(const __grid_constant__ backward_call<T, D, typename Pattern::arguments> c) {
    using shape = key_gradient_shape<F, HeadDim, Together>;
    using ops = tile::operands<F>;
    constexpr int capacity = query_capacity<Pattern>;
    using memory = key_gradient_memory<F, HeadDim, Score, capacity, Together>;
    constexpr int row_tiles = shape::row_tiles, query_blocks = shape::warp_queries / 8, width_blocks = shape::warp_width / 8, depth = ops::depth;
    constexpr int unrolled = shape::wide ? 2 : 16;  // parts of floats fill registers; loads of them must not run ahead
    extern __shared__ __align__(16) unsigned char shared[];

    attention_block block;
    index key_head = blockIdx.y;
    if constexpr (Together) {
        auto& ticket = *reinterpret_cast<unsigned*>(shared);
        if (threadIdx.x == 0) ticket = atomicAdd(c.counter, 1u);
        __syncthreads();
        const unsigned mine = ticket, total = static_cast<unsigned>(c.key_blocks[0].block);
        __syncthreads();
        if (total == 0 || mine / total >= gridDim.y) return;
        key_head = mine / total;
        block = c.key_blocks[total - mine % total];
    } else {
        block = c.key_blocks[1 + blockIdx.x];
        if (block.segment < 0) return;
    }
    const index first_row = static_cast<index>(block.block) * shape::keys;
    const int warp = static_cast<int>(threadIdx.x) / 32, lane = tile::lane_id(), g = lane / 4, t = lane % 4;
    const int warp_key = warp / shape::query_warps * shape::warp_keys, side = warp % shape::query_warps;
    const int warp_query = side * shape::warp_queries, warp_column = side * shape::warp_width;
    const std::uint32_t base = ptx::shared_address(shared);
    const typename memory::key_tile key_tile{base + memory::keys}, value_tile{base + memory::values};
    const typename memory::map_tile map_tile{base + memory::map}, d_map_tile{base + memory::d_map};
    auto& kept = *reinterpret_cast<block_memory<capacity>*>(shared + memory::block);
    const attention_segment& s = kept.segment;
    [[maybe_unused]] auto& others = *reinterpret_cast<neighbours<capacity>*>(shared + memory::others);
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
            list_query_runs<Pattern, shape::queries>(kept.runs, c.arguments, from.ordinal, {first_key, first_key + live_keys},
                                                     {from.query_position, from.query_position + from.query_count});
        }
        if constexpr (Together) {
            const int side_of = static_cast<int>(threadIdx.x) == 32 ? 1 : static_cast<int>(threadIdx.x) == 64 ? -1 : 0;
            if (side_of != 0) {
                const index first = first_row + side_of * shape::keys;
                const index end = first + shape::keys < from.key_count ? first + shape::keys : from.key_count;
                const interval keys{from.key_position + first, from.key_position + (first < 0 ? first : end)};
                list_query_runs<Pattern, shape::queries>(side_of > 0 ? others.above : others.below, c.arguments, from.ordinal, keys,
                                                         {from.query_position, from.query_position + from.query_count});
            }
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
    const auto copy_d_out = [&](int stage, int at, index head) {
        const index row = s.query_begin + static_cast<index>(at) * shape::queries;
        tile::copy_rows<shape::threads, HeadDim>(typename memory::query_tile{base + memory::d_out + stage * memory::query_tile::size}, c.d_out + row * c.d_out_stride + head * HeadDim, c.d_out_stride, live_of(at));
    };
    const int heads_end = (static_cast<int>(key_head) + 1) * c.group;
    int head = heads_end - c.group;
    auto at = run_place<capacity>::begin(kept.runs);
    if (at.live) copy_queries(0, at.tile, head), copy_d_out(0, at.tile, head);
    ptx::commit_copies();

    philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();
    const auto keys_left = ops::left_view(key_tile.from(warp_key)), values_left = ops::left_view(value_tile.from(warp_key));
    const auto map_left = ops::left_view(map_tile.from(warp_key)), d_map_left = ops::left_view(d_map_tile.from(warp_key));
    const auto own_map = map_tile.from(warp_key + g, warp_query + 2 * t), own_d_map = d_map_tile.from(warp_key + g, warp_query + 2 * t);
    float dk[row_tiles][width_blocks][4] = {}, dv[row_tiles][width_blocks][4] = {};

    // Adds a warp's part of dQ, 32 rows from `row` on by dq_width columns, to the sums in memory; who comes first has nothing to add
    // to, and who comes last turns the sum into the result. Sums lie as lanes hold them, 512 bytes a warp, where the block of
    // queries is whole, and by rows where it is cut.
    constexpr int dq_blocks = shape::dq_width / 8;
    [[maybe_unused]] const auto pass_on = [&](float (&dq)[2][dq_blocks][4], const turn& now, int head, index tile_row, int row, int column, int live) {
        const bool whole = live == shape::queries;
        float4* const tile_sums = reinterpret_cast<float4*>(c.dq_sums + (head * c.query_tokens + tile_row) * shape::width);
        float4* const sums = tile_sums + (whole ? warp * (2 * dq_blocks * 32) + lane : ((row + g) * shape::width + column) / 4 + t);
        const int row_step = whole ? dq_blocks / 2 * 32 : 2 * shape::width, column_step = whole ? 32 : 4;
#pragma unroll
        for (int r = 0; r < 4; ++r) {  // rows 8·r + g
            if (row + 8 * r + g >= live) continue;
#pragma unroll
            for (int d = 0; d < dq_blocks; d += 2) {
                float(&low)[4] = dq[r / 2][d];
                float(&high)[4] = dq[r / 2][d + 1];
                const int e = r % 2 * 2;
                float4* const at = sums + r * row_step + d / 2 * column_step;
                const float4 part = make_float4(low[e], low[e + 1], high[e], high[e + 1]);
                if (!now.last) {
                    if (now.before < 0) __stcg(at, part);
                    else ptx::add_in_memory(at, part);
                } else if (now.before >= 0) {
                    const float4 before = __ldcg(at);
                    low[e] += before.x, low[e + 1] += before.y, high[e] += before.z, high[e + 1] += before.w;
                }
            }
        }
        if (!now.last) return;
        D* const to = c.dq + (tile_row + row + g) * c.dq_stride + head * HeadDim + column + 2 * t;
#pragma unroll
        for (int r = 0; r < 4; ++r) {
            if (row + 8 * r + g >= live) continue;
#pragma unroll
            for (int d = 0; d < dq_blocks; ++d) {
                if (column + 8 * d < HeadDim) store_pair(to + 8 * r * c.dq_stride + 8 * d, dq[r / 2][d][r % 2 * 2], dq[r / 2][d][r % 2 * 2 + 1]);
            }
        }
    };
    [[maybe_unused]] const bool top = first_row + shape::keys >= s.key_count;
    if (Together && threadIdx.x == shape::threads - 1) others.left_at = nullptr;

    for (int stage = 0; at.live; stage = (stage + 1) % shape::query_stages) {
        const score_rule<Score, F> rule(c.numbers, head);
        const float factor = rule.factor();
        const int tile_here = at.tile;
        const bool tested = at.partial;
        int next_head = head;
        at.advance(kept.runs);
        if (!at.live && ++next_head < heads_end) at = run_place<capacity>::begin(kept.runs);
        ptx::wait_copies<0>();
        __syncthreads();  // queries and dO are here, and nobody reads the last ones nor the last map
        if (shape::query_stages > 1) {
            if (at.live) {
                copy_queries((stage + 1) % shape::query_stages, at.tile, next_head);
                if constexpr (Together) copy_d_out((stage + 1) % shape::d_out_stages, at.tile, next_head);
            }
            ptx::commit_copies();
        }
        [[maybe_unused]] const index tile_row = s.query_begin + static_cast<index>(tile_here) * shape::queries;
        [[maybe_unused]] std::int32_t mark = 0;
        if constexpr (Together) {
            if (threadIdx.x == 0) {
                // A first look, long before it matters.
                mark = peek_mark(c.marks + head * c.query_tokens + tile_row);
                const bool above = others.holds(others.above, tile_here), below = others.holds(others.below, tile_here);
                if (!(above || top) || !(below || block.block == 0)) {
                    const index first = s.query_position + static_cast<index>(tile_here) * shape::queries;
                    others.now = find_turn<Pattern>(c.arguments(), s.ordinal, {first, first + live_of(tile_here)},
                                                    {s.key_position, s.key_position + s.key_count}, shape::keys, block.block);
                } else {
                    others.now = {above ? block.block + 1 : -1, !below};
                }
            }
        }
        const typename memory::query_tile d_out_tile{base + memory::d_out + stage % shape::d_out_stages * memory::query_tile::size};
        const typename memory::query_tile query_tile{base + memory::queries + stage * memory::query_tile::size};

        const auto k_view = keys_left.afresh(), v_view = values_left.afresh();
        const auto q_view = ops::right_view(query_tile.from(warp_query)).afresh(), o_view = ops::right_view(d_out_tile.from(warp_query)).afresh();
        float score[row_tiles][query_blocks][4] = {}, dp[row_tiles][query_blocks][4] = {};
#pragma unroll unrolled
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left k[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) k[m] = ops::load_left(k_view, 16 * m, d);
#pragma unroll
            for (int n = 0; n < query_blocks; n += 2) {
                const typename ops::right q = ops::load_right(q_view, 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(score[m][n], k[m], q, 0);
                    ops::multiply(score[m][n + 1], k[m], q, 1);
                }
            }
        }
#pragma unroll unrolled
        for (int d = 0; d < shape::width; d += depth) {
            typename ops::left v[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) v[m] = ops::load_left(v_view, 16 * m, d);
#pragma unroll
            for (int n = 0; n < query_blocks; n += 2) {
                const typename ops::right o = ops::load_right(o_view, 8 * n, d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dp[m][n], v[m], o, 0);
                    ops::multiply(dp[m][n + 1], v[m], o, 1);
                }
            }
        }

        const index query_position = s.query_position + static_cast<index>(tile_here) * shape::queries + warp_query;
        const index first_key = s.key_position + first_row;
        std::uint32_t seen[row_tiles][2][(shape::warp_queries + 31) / 32];
        if (tested) {
            row_masks<shape::warp_keys, (shape::warp_queries + 31) / 32> masks;
#pragma unroll
            for (int w = 0; w < (shape::warp_queries + 31) / 32; ++w) {
                masks.word[w] =
                    Pattern::query_bits(c.arguments(), s.ordinal, first_key + warp_key + lane % shape::warp_keys, query_position + 32 * w);
            }
            masks.spread(seen);
            if constexpr (!Score::soft_cap) hide(score, seen);
        }
        typename memory::drawn drawn;
        if constexpr (Score::dropout) {
            drawn.draw(base + memory::drop + warp * memory::drawn::size, drop_key, s.document, head, query_position, first_key + warp_key);
        }
        const auto map_view = own_map.afresh(), d_map_view = own_d_map.afresh();
        const int apart = static_cast<int>(query_position - first_key - warp_key) - g + 2 * t;
        const std::uint32_t statistics = base + memory::statistics + stage * memory::statistics_stage + (warp_query + 2 * t) * 8;
#pragma unroll
        for (int n = 0; n < query_blocks; ++n) {
            const float2 of_query[2] = {tile::read_pair(statistics + n * 64), tile::read_pair(statistics + n * 64 + 8)};
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) {
#pragma unroll
                for (int h = 0; h < 2; ++h) {
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
                        if constexpr (Score::soft_cap) {
                            if (tested) p = seen[m][h][n / 4] >> (n % 4 * 8 + i) & 1 ? p : 0.0f;
                        }
                        float given = dp[m][n][2 * h + i];
                        dropped[i] = p;
                        if constexpr (Score::dropout) {
                            const float keep = drawn.of(8 * n + 2 * t + i, 16 * m + 8 * h + g) >= c.numbers.drop_threshold ? c.numbers.keep_scale : 0.0f;
                            dropped[i] *= keep;
                            given *= keep;
                        }
                        ds[i] = p * (given - of_query[i].y) * slope;
                    }
                    ops::write(map_view.at(16 * m + 8 * h, 8 * n), dropped[0], dropped[1]);
                    ops::write(d_map_view.at(16 * m + 8 * h, 8 * n), ds[0], ds[1]);
                }
            }
        }
        if constexpr (Together) {
            // The last sums have had time to reach memory, so that the mark waits for nothing.
            if (threadIdx.x == shape::threads - 1) {
                if (others.left_at != nullptr) leave_mark(others.left_at, block.block);
                others.left_at = c.marks + head * c.query_tokens + tile_row;
            }
        }
        ptx::wait_for_threads(1 + warp / shape::query_warps, 32 * shape::query_warps);  // our keys' maps are here

        const auto p_view = map_left.afresh(), ds_view = d_map_left.afresh();
        const auto o_turned = ops::right_transposed_view(d_out_tile.from(0, warp_column)).afresh();
        const auto q_turned = ops::right_transposed_view(query_tile.from(0, warp_column)).afresh();
#pragma unroll
        for (int q = 0; q < shape::queries; q += depth) {
            typename ops::left p[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) p[m] = ops::load_left(p_view, 16 * m, q);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right o = ops::load_right_transposed(o_turned, q, 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dv[m][d], p[m], o, 0);
                    ops::multiply(dv[m][d + 1], p[m], o, 1);
                }
            }
        }
        if constexpr (!Together) {
            __syncthreads();  // nobody reads this dO any more
            if (at.live) copy_d_out(0, at.tile, next_head);
            ptx::commit_copies();
        }
#pragma unroll
        for (int q = 0; q < shape::queries; q += depth) {
            typename ops::left p[row_tiles];
#pragma unroll
            for (int m = 0; m < row_tiles; ++m) p[m] = ops::load_left(ds_view, 16 * m, q);
#pragma unroll
            for (int d = 0; d < width_blocks; d += 2) {
                const typename ops::right b = ops::load_right_transposed(q_turned, q, 8 * d);
#pragma unroll
                for (int m = 0; m < row_tiles; ++m) {
                    ops::multiply(dk[m][d], p[m], b, 0);
                    ops::multiply(dk[m][d + 1], p[m], b, 1);
                }
            }
        }
        if constexpr (Together) {
            if (threadIdx.x == 0 && others.now.before >= 0) {
                while (mark != others.now.before) mark = peek_mark(c.marks + head * c.query_tokens + tile_row);
                // An addition cannot leave before this loop has ended; only who reads the sum must look behind a fence.
                if (others.now.last) __threadfence();
            }
            __syncthreads();  // everybody's maps are here, and it is our turn
            float dq[2][dq_blocks][4] = {};
            const int dq_row = warp % shape::dq_query_warps * 32, dq_column = warp / shape::dq_query_warps * shape::dq_width;
            const auto ds_turned = ops::left_transposed_view(d_map_tile.from(0, dq_row)).afresh();
            const auto k_turned = ops::right_transposed_view(key_tile.from(0, dq_column)).afresh();
#pragma unroll
            for (int k = 0; k < shape::keys; k += depth) {
                typename ops::left ds[2];
#pragma unroll
                for (int m = 0; m < 2; ++m) ds[m] = ops::load_left_transposed(ds_turned, k, 16 * m);
#pragma unroll
                for (int d = 0; d < shape::dq_width / 8; d += 2) {
                    const typename ops::right b = ops::load_right_transposed(k_turned, k, 8 * d);
#pragma unroll
                    for (int m = 0; m < 2; ++m) {
                        ops::multiply(dq[m][d], ds[m], b, 0);
                        ops::multiply(dq[m][d + 1], ds[m], b, 1);
                    }
                }
            }
            pass_on(dq, others.now, head, tile_row, dq_row, dq_column, live_of(tile_here));
        }
        if (shape::query_stages == 1) {
            __syncthreads();
            if (at.live) copy_queries(0, at.tile, next_head);
            ptx::commit_copies();
        }
        head = next_head;
    }
    ptx::wait_copies<0>();
    if constexpr (Together) {
        __syncthreads();
        if (threadIdx.x == shape::threads - 1 && others.left_at != nullptr) leave_mark(others.left_at, block.block);
    }

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
