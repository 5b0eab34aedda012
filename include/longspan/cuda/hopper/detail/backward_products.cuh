// SPDX-License-Identifier: Apache-2.0
//
// What a warpgroup of the backward does with its 64 keys (hopper/detail/backward_kernel.cuh). Both warpgroups meet once a tile,
// when both have written their part of dSᵀ; two tiles of it take turns, so that nobody waits for the other to have read it.
#pragma once

#include <longspan/cuda/hopper/detail/backward_shape.cuh>

namespace longspan::cuda::hopper::detail {

/// Rounds sums to the operand of a product that runs along their columns.
template <class F, int N>
__device__ __forceinline__ void pack_operand(const float (&from)[N], std::uint32_t (&to)[N / 8][4]) {
#pragma unroll
    for (int k = 0; k < N / 8; ++k)
#pragma unroll
        for (int i = 0; i < 4; ++i) to[k][i] = pack_pair<F>(from[8 * k + 2 * i], from[8 * k + 2 * i + 1]);
}

template <class Pattern, int HeadDim, class Score, class T, int Capacity, class Call>
__device__ __forceinline__ void multiply_backward(const Call& c, const key_block& b, const run_list<Capacity>& runs, std::uint32_t base) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Capacity>;
    using key_tile = typename memory::key_tile;
    using query_tile = typename memory::query_tile;
    using map_tile = typename memory::map_tile;
    using rule_type = longspan::cuda::detail::score_rule<Score, T>;
    using place = typename pipeline::ring<shape::slots>::place;
    constexpr int queries = shape::queries;
    const pipeline::ring<shape::slots> query_ring{base + memory::query_ring}, d_out_ring{base + memory::d_out_ring};
    const pipeline::ring<1> dq_ring{base + memory::dq_ring};
    place at;
    typename pipeline::ring<1>::place at_dq;
    const int group = static_cast<int>(threadIdx.x) / 128 - 1, lane = static_cast<int>(threadIdx.x) & 31, g = lane / 4, t = lane % 4;
    const int warp_key = 64 * group + static_cast<int>(threadIdx.x) / 32 % 4 * 16;
    const key_tile keys{base + memory::keys}, values{base + memory::values};
    const std::uint64_t key_rows = keys.rows_from(64 * group), value_rows = values.rows_from(64 * group);
    const std::uint64_t key_columns = keys.columns_from(shape::halves == 2 ? 64 * group : 0);
    const auto first_key_of_lane = [&] { return b.s.key_position + b.first_row + warp_key + g; };  // asked where it is needed: no register kept
    int map = 0;
    [[maybe_unused]] philox_key drop_key{};
    if constexpr (Score::dropout) drop_key = c.numbers.site.key();

    float dk[HeadDim / 2], dv[HeadDim / 2];
    int started = 0;
    ptx::mbarrier_wait(base + memory::keys_full, 0);

    for_each_tile(runs, b.key_head * c.group, c.group, [&](int tile, int head, bool partial) {
        const query_tile q{base + memory::queries + static_cast<std::uint32_t>(at.slot * query_tile::size)};
        const query_tile d_out{base + memory::d_out + static_cast<std::uint32_t>(at.slot * query_tile::size)};
        float score[queries / 2], dp[queries / 2];
        const index first_query = b.s.query_position + static_cast<index>(tile) * queries;
        [[maybe_unused]] drop_bits<Score::dropout ? queries / 2 : 32> kept;
        if constexpr (Score::dropout) {
            kept.draw_columns(drop_source(drop_key, b.s.document, head, c.numbers.drop_threshold), first_query, b.s.key_position + b.first_row + warp_key);
        }
        const auto masks_here = [&] {
            const index first_key = first_key_of_lane();
            quad_masks<queries> masks;
            masks.draw([&](int half, int w) {
                if (warp_key + g + 8 * half >= b.live_keys) return 0u;
                return partial ? Pattern::query_bits(c.arguments(), b.s.ordinal, first_key + 8 * half, first_query + 32 * w) : ~0u;
            });
            return masks;
        };
        // With heads of 128 registers are free only before there are scores.
        constexpr bool masks_first = HeadDim == 128;
        [[maybe_unused]] quad_masks<masks_first ? queries : 32> early;
        if constexpr (masks_first) {
            if (partial || b.live_keys < shape::keys) early = masks_here();
        }
        query_ring.wait_full(at);
        ptx::fence_products();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(score, key_rows + key_tile::along_columns(d), q.rows_from() + query_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
        d_out_ring.wait_full(at);
        ptx::fence_products();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(dp, value_rows + key_tile::along_columns(d), d_out.rows_from() + query_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();

        const rule_type rule(c.numbers, head);
        const float factor = rule.factor();
        const std::uint32_t statistics = base + memory::statistics + static_cast<std::uint32_t>(at.slot * memory::statistics_slot + 16 * t);
        ptx::wait_products<1>();
        ptx::pin(score);
        float slope[rule_type::plain ? 1 : queries / 2];
        if constexpr (!rule_type::plain) {
            const int apart = static_cast<int>(first_query - first_key_of_lane()) + 2 * t;
#pragma unroll
            for (int i = 0; i < queries / 2; ++i) {
                const float capped = rule.capped(score[i]);
                slope[i] = rule.derivative(capped);
                score[i] = rule.placed(capped, static_cast<float>(apart + i / 4 * 8 + i % 2 - i / 2 % 2 * 8));
            }
        }
#pragma unroll
        for (int i = 0; i < queries / 8; ++i) {
            const float4 of_query = ptx::load_four_floats(statistics + 64 * i);
            score[4 * i] = ptx::exp2_fast(fmaf(score[4 * i], factor, -of_query.x));
            score[4 * i + 1] = ptx::exp2_fast(fmaf(score[4 * i + 1], factor, -of_query.z));
            score[4 * i + 2] = ptx::exp2_fast(fmaf(score[4 * i + 2], factor, -of_query.x));
            score[4 * i + 3] = ptx::exp2_fast(fmaf(score[4 * i + 3], factor, -of_query.z));
        }
        if (partial || b.live_keys < shape::keys) {
            quad_masks<queries> masks;
            if constexpr (masks_first) masks = early;
            else masks = masks_here();
#pragma unroll
            for (int h = 0; h < 2; ++h)
#pragma unroll
                for (int w = 0; w < queries / 32; ++w) {
                    const std::uint32_t seen = masks.of(h, w);
#pragma unroll
                    for (int i = 0; i < 8; ++i) {
                        float& p = score[16 * w + i / 2 * 4 + 2 * h + i % 2];
                        p = seen >> (i / 2 * 8 + i % 2) & 1 ? p : 0.0f;
                    }
                }
        }
        ptx::wait_products<0>();
        ptx::pin(dp);
        std::uint32_t p_operand[queries / 16][4], ds_operand[queries / 16][4];
#pragma unroll
        for (int i = 0; i < queries / 8; ++i) {
            const float4 of_query = ptx::load_four_floats(statistics + 64 * i);
#pragma unroll
            for (int e = 0; e < 4; ++e) {
                const int at_score = 4 * i + e;
                float p = score[at_score], given = dp[at_score];
                if constexpr (Score::dropout) {
                    const float keep = kept.keeps(at_score) ? c.numbers.keep_scale : 0.0f;
                    score[at_score] = p * keep;
                    given *= keep;
                }
                float ds = p * (given - (e % 2 == 0 ? of_query.y : of_query.w));
                if constexpr (!rule_type::plain) ds *= slope[at_score];
                dp[at_score] = ds;
            }
        }
        pack_operand<T>(score, p_operand);
        pack_operand<T>(dp, ds_operand);

        ptx::pin(dv);
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < queries / 16; ++k) {
            ptx::multiply<T, 1>(dv, p_operand[k], d_out.columns_from() + query_tile::along_rows(16 * k), k > 0 ? 1 : started);
        }
        ptx::commit_products();
        const map_tile ds_tile{base + memory::map + static_cast<std::uint32_t>(map * map_tile::size)};
#pragma unroll
        for (int k = 0; k < queries / 16; ++k) {
            const std::uint32_t to = ds_tile.base + map_tile::offset(warp_key + lane % 16, 16 * k + lane / 16 * 8);
            ptx::store_matrices(to, ds_operand[k][0], ds_operand[k][1], ds_operand[k][2], ds_operand[k][3]);
        }
        ptx::fence_async_proxy();
        ptx::barrier_wait(1, 128 * shape::groups);
        float dq[32];
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < shape::keys / 16; ++k) {
            ptx::multiply<T, 1, 1>(dq, ds_tile.columns_from(shape::halves == 2 ? 0 : 64 * group) + map_tile::along_rows(16 * k),
                                   key_columns + key_tile::along_rows(16 * k), k > 0);
        }
        ptx::commit_products();
        ptx::pin(dk);
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < queries / 16; ++k) {
            ptx::multiply<T, 1>(dk, ds_operand[k], q.columns_from() + query_tile::along_rows(16 * k), k > 0 ? 1 : started);
        }
        ptx::commit_products();
        started = 1;
        ptx::wait_products<2>();
        if (lane == 0) d_out_ring.free(at);
        ptx::wait_products<1>();
        ptx::pin(dq);
        dq_ring.wait_free(at_dq);
        // Row r of 64 floats: 16-byte unit 4·(j ⊕ r mod 2) + t holds columns 16j + 2t, 16j + 2t + 1, 16j + 8 + 2t, 16j + 8 + 2t + 1.
        const std::uint32_t part = base + memory::dq + static_cast<std::uint32_t>(group * memory::part + (static_cast<int>(threadIdx.x) / 32 % 4 * 16 + g) * 256);
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const std::uint32_t to = part + static_cast<std::uint32_t>(h * 8 * 256 + ((j ^ (g & 1)) * 4 + t) * 16);
                ptx::store(to, make_float4(dq[8 * j + 2 * h], dq[8 * j + 2 * h + 1], dq[8 * j + 4 + 2 * h], dq[8 * j + 4 + 2 * h + 1]));
            }
        ptx::fence_async_proxy();
        __syncwarp();
        if (lane == 0) ptx::mbarrier_arrive(dq_ring.full(at_dq));
        at_dq.advance();
        ptx::wait_products<0>();
        ptx::pin(dk);
        ptx::pin(dv);
        if (lane == 0) query_ring.free(at);
        at.advance();
        map ^= 1;
    });

    const float scale = rule_type::plain ? c.numbers.natural_scale : 1.0f;
#pragma unroll
    for (int h = 0; h < 2; ++h) {
        const int row = warp_key + 8 * h + g;
        if (row >= b.live_keys) continue;
        const index column = static_cast<index>(b.key_head) * HeadDim + 2 * t;
        auto* const to_k = c.dk + (b.s.key_begin + b.first_row + row) * c.dk_stride + column;
        auto* const to_v = c.dv + (b.s.key_begin + b.first_row + row) * c.dv_stride + column;
#pragma unroll
        for (int d = 0; d < HeadDim / 8; ++d) {
            const int i = 4 * d + 2 * h;
            store_pair(to_k + 8 * d, started ? dk[i] * scale : 0.0f, started ? dk[i + 1] * scale : 0.0f, c.add_keys);
            store_pair(to_v + 8 * d, started ? dv[i] : 0.0f, started ? dv[i + 1] : 0.0f, c.add_keys);
        }
    }
}

}  // namespace longspan::cuda::hopper::detail
