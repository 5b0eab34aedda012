// SPDX-License-Identifier: Apache-2.0
//
// dK and dV on mma.sync: a thread block takes a block of keys of one key/value head and walks the live tiles of queries of every
// head of its group, so that sums stay in registers from beginning to end:
//
//     dV = (P ∘ drop)ᵀ · dO,   dK = scale · dSᵀ · Q,   dS = P ∘ (dP ∘ drop − delta)
//
// Scores stand transposed, [keys][queries]. A warp makes 16 or 32 keys by half of the queries; P and dS pass through shared
// memory, and each warp sums its keys' gradients over half of the head.
#pragma once

#include <longspan/cuda/detail/attention_key_shape.cuh>
#include <longspan/cuda/detail/attention_order.cuh>
#include <longspan/cuda/detail/attention_query_gradients.cuh>
#include <longspan/cuda/ptx/barrier.cuh>

namespace longspan::cuda::detail {

template <class Pattern, int HeadDim, class Score, class F, class T, class D, bool Together>
__global__ void __launch_bounds__(key_gradient_shape<F, HeadDim, Score, query_capacity<Pattern>, Together>::threads, key_gradient_shape<F, HeadDim, Score, query_capacity<Pattern>, Together>::resident)
    attention_key_gradients(const __grid_constant__ backward_call<T, D, typename Pattern::arguments> c) {
    using shape = key_gradient_shape<F, HeadDim, Score, query_capacity<Pattern>, Together>;
    using ops = tile::operands<F>;
    constexpr int capacity = query_capacity<Pattern>;
    using memory = key_gradient_memory<F, HeadDim, Score, capacity, Together>;
    constexpr int row_tiles = shape::row_tiles, query_blocks = shape::warp_queries / 8, width_blocks = shape::warp_width / 8, depth = ops::depth;
    constexpr int unrolled = !shape::wide ? 4 : shape::width <= 128 ? 2 : 1;  // parts of floats fill registers; loads of them must not run ahead
    constexpr int summed = shape::wide && shape::width > 128 ? 1 : shape::queries / depth;
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
    const std::uint32_t base = ptx::shared_address(shared);
    const typename memory::key_tile key_tile{base + memory::keys}, value_tile{base + memory::values};
    const typename memory::map_tile map_tile{base + memory::map}, d_map_tile{base + memory::d_map};
    auto& kept = *reinterpret_cast<block_memory<capacity>*>(shared + memory::block);
    const attention_segment& s = kept.segment;
    auto& way = *reinterpret_cast<route<capacity>*>(shared + memory::way);
    [[maybe_unused]] auto& others = *reinterpret_cast<neighbours<capacity>*>(shared + memory::others);
    {
        const attention_segment from = c.segments[block.segment];
        const int live_keys = static_cast<int>(from.key_count - first_row < shape::keys ? from.key_count - first_row : shape::keys);
        const index row = from.key_begin + first_row;
        tile::copy_rows<shape::threads, HeadDim>(key_tile, c.keys + row * c.key_stride + key_head * HeadDim, c.key_stride, live_keys);
        tile::copy_rows<shape::threads, HeadDim>(value_tile, c.values + row * c.value_stride + key_head * HeadDim, c.value_stride, live_keys);
        if (threadIdx.x == 0) {
            const index first_key = from.key_position + first_row;
            kept.segment = from;
            kept.column = static_cast<int>(key_head) * HeadDim;
            kept.live = live_keys;
            kept.block = block.block;
            list_query_runs<Pattern, shape::queries>(kept.runs, c.arguments, from.ordinal, {first_key, first_key + live_keys},
                                                     {from.query_position, from.query_position + from.query_count});
            way.begin(kept.runs, static_cast<int>(key_head) * c.group, (static_cast<int>(key_head) + 1) * c.group);
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
    const auto copy_queries = [&](int stage, int at, index head, int thread) {
        const index row = s.query_begin + static_cast<index>(at) * shape::queries;
        const int live = live_of(at);
        tile::copy_rows<shape::threads, HeadDim>(typename memory::query_tile{base + memory::queries + stage * memory::query_tile::size},
                                                 c.queries + row * c.query_stride + head * HeadDim, c.query_stride, live, thread);
        const int i = thread;
        if (i < shape::queries) {
            const float2* const from = c.statistics + head * c.query_tokens + row;
            ptx::copy_8(base + memory::statistics + stage * memory::statistics_stage + i * 8, i < live ? from + i : from, i < live);
        }
    };
    const auto copy_d_out = [&](int stage, int at, index head, int thread) {
        const index row = s.query_begin + static_cast<index>(at) * shape::queries;
        tile::copy_rows<shape::threads, HeadDim>(typename memory::query_tile{base + memory::d_out + stage * memory::query_tile::size}, c.d_out + row * c.d_out_stride + head * HeadDim, c.d_out_stride, live_of(at), thread);
    };
    const auto copy_both = [&](int slot, int stage) {
        const auto& visit = way.visits[slot];
        if (!visit.live) return;
        const tile::thread_place me;
        copy_queries(stage % shape::query_stages, visit.tile, visit.head, me.thread);
        copy_d_out(stage % shape::d_out_stages, visit.tile, visit.head, me.thread);
    };
    copy_both(0, 0);
    ptx::commit_copies();

    philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();
    float dk[row_tiles][width_blocks][4] = {}, dv[row_tiles][width_blocks][4] = {};

    const auto first_row_here = [&] { return static_cast<index>(kept.block) * shape::keys; };
    constexpr int dq_blocks = shape::dq_width / 8;
    [[maybe_unused]] const auto mark_of = [&](int head, int tile) {
        return c.marks + head * c.query_tokens + s.query_begin + static_cast<index>(tile) * shape::queries;
    };
    if (Together && threadIdx.x == shape::threads - 1) others.left_at = nullptr;

    // Six steps make a round of two stages and three visits.
    for (int step = 0; way.visits[step % 3].live; step = step == 5 ? 0 : step + 1) {
        const int stage = step % shape::query_stages;
        const auto& here = way.visits[step % 3];
        const auto& next = way.visits[(step + 1) % 3];
        const tile::thread_place me;
        const int lane = me.lane, g = me.g, t = me.t;
        const int warp_key = me.warp / shape::query_warps * shape::warp_keys, side = me.warp % shape::query_warps;
        const int warp_query = side * shape::warp_queries;
        const score_rule<Score, F> rule(c.numbers, here.head);
        const float factor = rule.factor();
        ptx::wait_copies<0>();
        __syncthreads();  // queries and dO are here, and nobody reads the last ones nor the last map
        if (threadIdx.x == 0) way.find(kept.runs, (step + 2) % 3);
        [[maybe_unused]] std::int32_t mark = 0;
        if constexpr (Together) {
            if (threadIdx.x == 0) {
                // A first look, long before it matters.
                mark = ptx::load_relaxed(mark_of(here.head, here.tile));
                const bool top = first_row_here() + shape::keys >= s.key_count;
                const bool above = others.holds(others.above, here.tile), below = others.holds(others.below, here.tile);
                if (!(above || top) || !(below || kept.block == 0)) {
                    const index first = s.query_position + static_cast<index>(here.tile) * shape::queries;
                    others.now = find_turn<Pattern>(c.arguments(), s.ordinal, {first, first + live_of(here.tile)},
                                                    {s.key_position, s.key_position + s.key_count}, shape::keys, kept.block);
                } else {
                    others.now = {above ? kept.block + 1 : -1, !below};
                }
            }
        }
        const typename memory::query_tile d_out_tile{base + memory::d_out + stage % shape::d_out_stages * memory::query_tile::size};
        const typename memory::query_tile query_tile{base + memory::queries + stage * memory::query_tile::size};

        const auto k_view = ops::left_view(key_tile.from(warp_key), lane);
        const auto q_view = ops::right_view(query_tile.from(warp_query), lane);
        float score[row_tiles][query_blocks][4] = {};
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
        if (shape::query_stages > 1) {
            if constexpr (Together) copy_both((step + 1) % 3, step + 1);
            else if (next.live) copy_queries((step + 1) % shape::query_stages, next.tile, next.head, me.thread);
            ptx::commit_copies();
        }

        const index query_position = s.query_position + static_cast<index>(here.tile) * shape::queries + warp_query;
        const index first_key = s.key_position + first_row_here();
        std::uint32_t seen[row_tiles][2][(shape::warp_queries + 31) / 32];
        if (here.partial) {
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
            drawn.draw(base + memory::drop + me.warp * memory::drawn::size, drop_key, s.document, c.numbers.first_head + here.head, query_position, first_key + warp_key);
        }
        const int apart = static_cast<int>(query_position - first_key - warp_key) - g + 2 * t;
        const std::uint32_t statistics = base + memory::statistics + stage * memory::statistics_stage + (warp_query + 2 * t) * 8;
        const auto keep = [&](int n, int i, int row) {
            return drawn.of(8 * n + 2 * t + i, row + g) >= c.numbers.drop_threshold ? c.numbers.keep_scale : 0.0f;
        };
        // From here on `score` is P; exponentials run beside the products of dP, since nothing is written in between.
        float dp[row_tiles][query_blocks][4];
        [[maybe_unused]] float slopes[Score::soft_cap ? row_tiles : 1][query_blocks][4];
#pragma unroll
        for (int n = 0; n < query_blocks; ++n) {
            const float2 of_query[2] = {ptx::load_two_floats(statistics + n * 64), ptx::load_two_floats(statistics + n * 64 + 8)};
#pragma unroll
            for (int m = 0; m < row_tiles; ++m)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        float x = score[m][n][2 * h + i], slope = 1;
                        if constexpr (!score_rule<Score, F>::plain) {
                            x = rule.capped(x);
                            slope = rule.derivative(x);
                            x = rule.placed(x, static_cast<float>(apart + 8 * n + i - 16 * m - 8 * h));
                        }
                        float p = ptx::exp2_fast(fmaf(x, factor, -of_query[i].x));
                        if constexpr (Score::soft_cap) {
                            if (here.partial) p = seen[m][h][n / 4] >> (n % 4 * 8 + i) & 1 ? p : 0.0f;
                        }
                        score[m][n][2 * h + i] = p;
                        if constexpr (Score::soft_cap) slopes[m][n][2 * h + i] = slope;
                        dp[m][n][2 * h + i] = Score::dropout ? 0.0f : -of_query[i].y;
                    }
                }
        }
        const auto v_view = ops::left_view(value_tile.from(warp_key), lane);
        const auto o_view = ops::right_view(d_out_tile.from(warp_query), lane);
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

        const auto map_view = map_tile.from(warp_key + g, warp_query + 2 * t), d_map_view = d_map_tile.from(warp_key + g, warp_query + 2 * t);
#pragma unroll
        for (int n = 0; n < query_blocks; ++n)
#pragma unroll
            for (int m = 0; m < row_tiles; ++m)
#pragma unroll
                for (int h = 0; h < 2; ++h) {
                    float ds[2], dropped[2];
#pragma unroll
                    for (int i = 0; i < 2; ++i) {
                        const float p = score[m][n][2 * h + i];
                        float given = dp[m][n][2 * h + i];
                        dropped[i] = p;
                        if constexpr (Score::dropout) {
                            const float factor_here = keep(n, i, 16 * m + 8 * h);
                            dropped[i] *= factor_here;
                            given = fmaf(given, factor_here, -ptx::load_float(statistics + n * 64 + 8 * i + 4));
                        }
                        ds[i] = p * given;
                        if constexpr (Score::soft_cap) ds[i] *= slopes[m][n][2 * h + i];
                    }
                    ops::write(map_view.at(16 * m + 8 * h, 8 * n), dropped[0], dropped[1]);
                    ops::write(d_map_view.at(16 * m + 8 * h, 8 * n), ds[0], ds[1]);
                }
        if constexpr (Together) {
            // The last sums have had time to reach memory, so that the mark waits for nothing.
            if (threadIdx.x == shape::threads - 1) {
                if (others.left_at != nullptr) ptx::store_release(others.left_at, kept.block);
                others.left_at = mark_of(here.head, here.tile);
            }
        }
        ptx::wait_for_threads(1 + me.warp / shape::query_warps, 32 * shape::query_warps);  // our keys' maps are here

        const tile::thread_place also;
        const int own_key = also.warp / shape::query_warps * shape::warp_keys, own_column = also.warp % shape::query_warps * shape::warp_width;
        const auto p_view = ops::left_view(map_tile.from(own_key), also.lane), ds_view = ops::left_view(d_map_tile.from(own_key), also.lane);
        const auto o_turned = ops::right_transposed_view(d_out_tile.from(0, own_column), also.lane);
        const auto q_turned = ops::right_transposed_view(query_tile.from(0, own_column), also.lane);
#pragma unroll summed
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
            if (next.live) copy_d_out(0, next.tile, next.head, me.thread);
            ptx::commit_copies();
        }
#pragma unroll summed
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
                while (mark != others.now.before) mark = ptx::load_relaxed(mark_of(here.head, here.tile));
                // An addition cannot leave before this loop has ended; only who reads the sum must look behind a fence.
                if (others.now.last) __threadfence();
            }
            __syncthreads();  // everybody's maps are here, and it is our turn
            const tile::thread_place us;
            float dq[2][dq_blocks][4] = {};
            const int dq_row = us.warp % shape::dq_query_warps * 32, dq_column = us.warp / shape::dq_query_warps * shape::dq_width;
            const auto ds_turned = ops::left_transposed_view(d_map_tile.from(0, dq_row), us.lane);
            const auto k_turned = ops::right_transposed_view(key_tile.from(0, dq_column), us.lane);
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
            pass_on<shape, HeadDim>(c, dq, us, others.now, here.head, s.query_begin + static_cast<index>(here.tile) * shape::queries, dq_row, dq_column, live_of(here.tile));
        }
        if (shape::query_stages == 1) {
            __syncthreads();
            if (next.live) copy_queries(0, next.tile, next.head, me.thread);
            ptx::commit_copies();
        }
    }
    ptx::wait_copies<0>();
    if constexpr (Together) {
        __syncthreads();
        if (threadIdx.x == shape::threads - 1 && others.left_at != nullptr) ptx::store_release(others.left_at, kept.block);
    }

    const tile::thread_place me;
    const int warp_key = me.warp / shape::query_warps * shape::warp_keys, warp_column = me.warp % shape::query_warps * shape::warp_width;
#pragma unroll
    for (int m = 0; m < row_tiles; ++m)
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            const int row = warp_key + 16 * m + 8 * h + me.g;
            if (row >= kept.live) continue;
            const index column = kept.column + warp_column + 2 * me.t;
            D* const to_k = c.dk + (s.key_begin + first_row_here() + row) * c.dk_stride + column;
            D* const to_v = c.dv + (s.key_begin + first_row_here() + row) * c.dv_stride + column;
#pragma unroll
            for (int d = 0; d < width_blocks; ++d) {
                if (warp_column + 8 * d >= HeadDim) continue;
                store_pair(to_k + 8 * d, dk[m][d][2 * h] * c.numbers.natural_scale, dk[m][d][2 * h + 1] * c.numbers.natural_scale, c.add_keys);
                store_pair(to_v + 8 * d, dv[m][d][2 * h], dv[m][d][2 * h + 1], c.add_keys);
            }
        }
}

}  // namespace longspan::cuda::detail
