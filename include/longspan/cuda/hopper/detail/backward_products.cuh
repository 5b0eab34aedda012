// SPDX-License-Identifier: Apache-2.0
//
// What a warpgroup of Hopper's backward does with its 64 keys (hopper/detail/backward_kernel.cuh). Both warpgroups meet once a tile,
// when both have written their part of dSᵀ; two tiles of it take turns, so that nobody waits for the other to have read it.
//
// The tensor cores always have a product to go on with:
//
//     exp S(n)   beside   dP(n)                both meet       beside   dK(n)
//     dS(n)      beside   dV(n)                dQ(n) leaves    beside   S(n+1)
#pragma once

#include <longspan/cuda/hopper/detail/backward_shape.cuh>
#include <longspan/cuda/hopper/detail/score_tile.cuh>

namespace longspan::cuda::hopper::detail {

/// One warpgroup's work on one block of keys.
template <class Pattern, int HeadDim, class Score, class T, class Call>
struct backward_products {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Pattern, Score::dropout>;
    using block_type = typename memory::block_type;
    using key_tile = typename memory::key_tile;
    using query_tile = typename memory::query_tile;
    using map_tile = typename memory::map_tile;
    using rule_type = longspan::cuda::detail::score_rule<Score, T>;
    static constexpr int queries = shape::queries, steps = queries / 16;
    static constexpr int row_step = step_of<Pattern>;

    const Call& c;
    std::uint32_t base;
    int group;                                     ///< of the warpgroups that multiply
    std::uint32_t tiles = 0, walks = 0;            ///< so far: slots that take turns by twos follow from their last bits

    // A lane's vote makes the number of its warpgroup one that the compiler knows to be the warp's.
    __device__ __forceinline__ backward_products(const Call& call, std::uint32_t base_)
        : c(call), base(base_), group(__shfl_sync(~0u, static_cast<int>(threadIdx.x) / 128 - 1, 0)) {}

    // Asked afresh where they are needed: what follows from them is not carried through the walk in registers.
    __device__ __forceinline__ static int lane() { return ptx::thread_x() & 31; }
    __device__ __forceinline__ static int warp_key() { return ptx::thread_x() / 32 * 16 - 64; }
    /// The place in every ring of the tile that comes next.
    __device__ __forceinline__ pipeline::ring_place<2> at_ring() const { return {static_cast<int>(tiles & 1), tiles >> 1 & 1}; }
    __device__ __forceinline__ key_tile keys() const { return {base + memory::keys}; }
    __device__ __forceinline__ key_tile values() const { return {base + memory::values}; }

    __device__ __forceinline__ void multiply_scores(float (&score)[queries / 2]) const {
        const query_tile q = memory::query_slot(base, at_ring().slot);
        const std::uint64_t rows = keys().rows_from(64 * group);
        ptx::fence_products();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(score, rows + key_tile::along_columns(d), q.rows_from() + query_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
    }
    __device__ __forceinline__ void multiply_dp(float (&dp)[queries / 2]) const {
        const query_tile d_out = memory::d_out_slot(base, at_ring().slot);
        const std::uint64_t rows = values().rows_from(64 * group);
        ptx::fence_products();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(dp, rows + key_tile::along_columns(d), d_out.rows_from() + query_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
    }
    __device__ __forceinline__ void multiply_dq(float (&dq)[32], map_tile ds) const {
        const std::uint64_t columns = keys().columns_from(shape::panels == 2 ? 64 * group : 0);
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < shape::keys / 16; ++k) {
            ptx::multiply<T, 1, 1>(dq, ds.columns_from(shape::panels == 2 ? 0 : 64 * group) + map_tile::along_rows(16 * k),
                                   columns + key_tile::along_rows(16 * k), k > 0);
        }
        ptx::commit_products();
    }

    /// Row r of 64 floats: 16-byte unit 4·(j ⊕ r mod 2) + t holds columns 16j + 2t, 16j + 2t + 1, 16j + 8 + 2t, 16j + 8 + 2t + 1.
    /// `turn`: how many parts this warpgroup has handed over before.
    __device__ __forceinline__ void hand_over(const float (&dq)[32], std::uint32_t turn) const {
        const typename memory::dq_ring_type ring{base + memory::dq_ring};
        const int thread = ptx::thread_x(), g = thread / 4 % 8, t = thread % 4;
        const std::uint32_t part = base + memory::dq + static_cast<std::uint32_t>(group * memory::part + (thread / 32 % 4 * 16 + g) * 256);
        if (turn > 0) ring.wait_freed(memory::dq_turn(turn - 1));  // the room is the same
#pragma unroll
        for (int j = 0; j < 4; ++j)
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const std::uint32_t to = part + static_cast<std::uint32_t>(h * 8 * 256 + ((j ^ (g & 1)) * 4 + t) * 16);
                ptx::store(to, make_float4(dq[8 * j + 2 * h], dq[8 * j + 2 * h + 1], dq[8 * j + 4 + 2 * h], dq[8 * j + 4 + 2 * h + 1]));
            }
        ptx::fence_async_proxy();
        __syncwarp();
        pipeline::arrive_as_warp(ring.full(memory::dq_turn(turn)), lane());
    }

    __device__ __forceinline__ query_entry entry(int slot) const {
        const float2 raw = ptx::load_two_floats(base + memory::entries + static_cast<std::uint32_t>(8 * slot));
        return {__float_as_int(raw.x), __float_as_int(raw.y)};
    }

    /// The gradients of the block's keys: dK but for the scale, and dV.
    __device__ __forceinline__ void walk(const block_type& b, float (&dk)[HeadDim / 2], float (&dv)[HeadDim / 2]) {
        const typename memory::query_ring_type query_ring{base + memory::query_ring}, mark_ring{base + memory::mark_ring};
        const typename memory::query_ring_type d_out_ring{base + memory::d_out_ring};
        float score[queries / 2];
        query_ring.wait_full(at_ring());
        multiply_scores(score);
        ptx::wait_products<0>();
        for (int left = b.tiles;; --left) {
            ptx::pin(score);
            const auto here = at_ring();
            const std::uint32_t statistics = base + memory::statistics + static_cast<std::uint32_t>(here.slot * memory::statistics_slot + 8 * (lane() % 4));
            // Fetched before they are needed: dP has no sums yet, so there are registers.
            mark_ring.wait_full(here);
            float2 log_sum[8];
#pragma unroll
            for (int i = 0; i < 8; ++i) log_sum[i] = ptx::load_two_floats(statistics + 32 * i);
            float dp[queries / 2];
            d_out_ring.wait_full(here);
            multiply_dp(dp);
            mark_ring.wait_full(here);  // it has: but a branch keeps the compiler from mixing exponentials into the product's issue
            const query_entry tile = entry(here.slot);
            const query_tile q = memory::query_slot(base, here.slot), d_out = memory::d_out_slot(base, here.slot);
            const rule_type rule(c.numbers, tile.head);
            const float factor = rule.factor();
            // Plain scores become probabilities at once. Others stay what their derivative needs, and are raised where they are asked for,
            // twice: there are no registers for both.
            typename memory::masks::lane_bits seen{};
            int apart = 0;
            if constexpr (rule_type::plain) {
#pragma unroll
                for (int i = 0; i < queries / 8; ++i) {
                    const float2 of_query = i < 8 ? log_sum[i % 8] : ptx::load_two_floats(statistics + 32 * i);
                    score[4 * i] = ptx::exp2_fast(fmaf(score[4 * i], factor, -of_query.x));
                    score[4 * i + 1] = ptx::exp2_fast(fmaf(score[4 * i + 1], factor, -of_query.y));
                    score[4 * i + 2] = ptx::exp2_fast(fmaf(score[4 * i + 2], factor, -of_query.x));
                    score[4 * i + 3] = ptx::exp2_fast(fmaf(score[4 * i + 3], factor, -of_query.y));
                }
                if (tile.tile & tested_tile) {
                    seen = memory::seen_in(base, here.slot).of_lane(warp_key() + lane() / 4, lane() % 4);
#pragma unroll
                    for (int i = 0; i < queries / 2; ++i) score[i] = seen(i) ? score[i] : 0.0f;
                }
            } else {
                const index first_query = b.s.query_position + static_cast<index>(tile.tile & ~tested_tile) * queries;
                apart = static_cast<int>(first_query - (b.s.key_position + b.first_row + warp_key() + lane() / 4)) + 2 * (lane() % 4);
#pragma unroll
                for (int i = 0; i < queries / 2; ++i) score[i] = rule.capped(score[i]);
                seen = tile.tile & tested_tile ? memory::seen_in(base, here.slot).of_lane(warp_key() + lane() / 4, lane() % 4)
                                               : memory::masks::lane_bits::all();
            }
            const auto probability = [&](int i) {
                if constexpr (rule_type::plain) {
                    return score[i];
                } else {
                    const float2 of_query = ptx::load_two_floats(statistics + 32 * (i / 4));
                    const float placed = rule.placed(score[i], static_cast<float>(row_step * (apart + i / 4 * 8 + i % 2 - i / 2 % 2 * 8)));
                    return seen(i) ? ptx::exp2_fast(placed - (i % 2 == 0 ? of_query.x : of_query.y)) : 0.0f;
                }
            };
            // What dropout keeps of sixteen queries, two words of bits.
            const auto kept_of = [&](int k) {
                const int thread = ptx::thread_x();
                const auto words = memory::kept_in(base, here.slot).of_lane(thread / 32 - 4, thread / 4 % 8, thread % 4);
                return words.of(k);
            };

            std::uint32_t p_operand[2][4], ds_operand[steps][4];
            const auto multiply_dv = [&](auto step) {
                constexpr int k = step();
                float p[8];
                [[maybe_unused]] typename memory::drops::sixteen kept;
                if constexpr (Score::dropout) kept = kept_of(k);
#pragma unroll
                for (int i = 0; i < 8; ++i) {
                    p[i] = probability(8 * k + i);
                    if constexpr (Score::dropout) p[i] = kept(i) ? p[i] : 0.0f;  // and dV is scaled at the end
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) p_operand[k % 2][i] = pack_pair<T>(p[2 * i], p[2 * i + 1]);
                ptx::fence_products();
                ptx::multiply<T, 1>(dv, p_operand[k % 2], d_out.columns_from() + query_tile::along_rows(16 * k), 1);
                ptx::commit_products();
            };
            const auto differentiate = [&](auto step) {
                constexpr int k = step();
                [[maybe_unused]] typename memory::drops::sixteen kept;
                if constexpr (Score::dropout) kept = kept_of(k);
#pragma unroll
                for (int i = 2 * k; i < 2 * k + 2; ++i) {
                    const float2 delta = ptx::load_two_floats(statistics + 4 * queries + 32 * i);
#pragma unroll
                    for (int e = 0; e < 4; ++e) {
                        const int at = 4 * i + e;
                        const float less = e % 2 == 0 ? delta.x : delta.y;
                        float given = dp[at] - less;
                        if constexpr (Score::dropout) given = fmaf(kept(at - 8 * k) ? dp[at] : 0.0f, c.numbers.keep_scale, -less);
                        dp[at] = probability(at) * given;
                        if constexpr (!rule_type::plain) dp[at] *= rule.derivative(score[at]);
                    }
                }
#pragma unroll
                for (int i = 0; i < 4; ++i) ds_operand[k][i] = pack_pair<T>(dp[8 * k + 2 * i], dp[8 * k + 2 * i + 1]);
                if constexpr (k + 1 < steps) {
                    if constexpr (k > 0) ptx::wait_products<1>();  // Pᵀ has two places: the one before last is read
                    multiply_dv(std::integral_constant<int, k + 1>{});
                }
            };
            multiply_dv(std::integral_constant<int, 0>{});
            ptx::wait_products<1>();  // dP
            ptx::pin(dp);
            [&]<int... K>(std::integer_sequence<int, K...>) { (differentiate(std::integral_constant<int, K>{}), ...); }(std::make_integer_sequence<int, steps>{});

            const map_tile ds{base + static_cast<std::uint32_t>(memory::map + here.slot * map_tile::size)};
            const int row = warp_key() + lane() % 16, side = lane() / 16;
#pragma unroll
            for (int k = 0; k < steps; ++k) {
                const std::uint32_t to = ds.base + map_tile::offset(row, 16 * k + side * 8);
                ptx::store_matrices(to, ds_operand[k][0], ds_operand[k][1], ds_operand[k][2], ds_operand[k][3]);
            }
            ptx::fence_async_proxy();
            ptx::fence_products();
#pragma unroll
            for (int k = 0; k < steps; ++k) ptx::multiply<T, 1>(dk, ds_operand[k], q.columns_from() + query_tile::along_rows(16 * k), 1);
            ptx::commit_products();
            ptx::barrier_wait(1, 128 * shape::groups);
            float dq[32];
            multiply_dq(dq, ds);
            ptx::wait_products<1>();  // dV and dK: nobody reads this tile's queries and dO any more
            ptx::pin(dv);
            ptx::pin(dk);
            query_ring.free_as_warp(here, lane()), d_out_ring.free_as_warp(here, lane());
            ++tiles;
            // Behind the last tile the product is of what lies there, and nobody looks at it: whether to multiply must not be a question,
            // or the compiler finds two ends of one product and puts them all in a row.
            if (left > 1) query_ring.wait_full(at_ring());
            multiply_scores(score);
            ptx::wait_products<1>();
            ptx::pin(dq);
            hand_over(dq, tiles - 1);
            ptx::wait_products<0>();
            if (left == 1) return;
        }
    }

    /// 16 rows of dK or dV, from `warp_key` on, and Columns columns from `first_column` of the head on: as two-byte numbers by way of `room`,
    /// 2 KiB of the warp's own for each of Panels panels of 64 columns at a time, `panel_step` apart; else straight.
    template <int Panels, int Columns, class D>
    __device__ __forceinline__ void write_rows(const block_type& b, D* to, index stride, float (&sum)[Columns / 2], float scale, bool add, int warp_key,
                                               std::uint32_t room, int panel_step, int first_column = 0) const {
        const index first_row = b.s.key_begin + row_step * b.first_row;
        const int lane = this->lane(), g = lane / 4, t = lane % 4, live = b.live_keys - warp_key;
        D* const column = to + static_cast<index>(b.key_head) * HeadDim + first_column;
#pragma unroll
        for (int i = 0; i < Columns / 2; ++i) sum[i] *= scale;
        if (sizeof(D) == 2 && !add) {
            const auto place = [&](int row, int unit) {
                return room + static_cast<std::uint32_t>(unit / 8 * panel_step) + static_cast<std::uint32_t>(row * 128 + ((unit % 8) ^ (row % 8)) * 16);
            };
#pragma unroll
            for (int first = 0; first < Columns / 8; first += 8 * Panels) {
                __syncwarp();
#pragma unroll
                for (int d = 0; d < 8 * Panels; d += 2) {
                    const float* const of = sum + 4 * (first + d);
                    ptx::store_matrices(place(lane % 16, d + lane / 16), pack_pair<D>(of[0], of[1]), pack_pair<D>(of[2], of[3]), pack_pair<D>(of[4], of[5]),
                                        pack_pair<D>(of[6], of[7]));
                }
                __syncwarp();
                constexpr int units = 8 * Panels, rows_at_once = 32 / units;
#pragma unroll
                for (int r = 0; r < 16; r += rows_at_once) {
                    const int row = r + lane / units, unit = lane % units;
                    if (row >= live) continue;
                    D* const at = column + (first_row + row_step * warp_key + row_step * row) * stride + 8 * (first + unit);
                    *reinterpret_cast<uint4*>(at) = ptx::load_words(place(row, unit));
                }
            }
        } else {
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                const int row = 8 * h + g;
                if (row >= live) continue;
                D* const at = column + (first_row + row_step * warp_key + row_step * row) * stride + 2 * t;
#pragma unroll
                for (int d = 0; d < Columns / 8; ++d) store_pair(at + 8 * d, sum[4 * d + 2 * h], sum[4 * d + 2 * h + 1], add);
            }
        }
    }

    /// f(block), block after block; a warp comes back from it together.
    template <class F>
    __device__ __forceinline__ void for_each_block(const F& f) {
        const typename memory::work_ring_type work_ring{base + memory::work_ring};
        for (;; ++walks) {
            const int slot = static_cast<int>(walks & 1);
            work_ring.wait_full({slot, walks >> 1 & 1});
            const block_type& b = memory::block(walks & 1);
            if (b.key_head < 0) return;
            f(b);
            work_ring.free_as_warp({slot, 0}, lane());
        }
    }
    __device__ __forceinline__ void run() {
        const typename memory::single key_ring{base + memory::key_ring};
        for_each_block([&](const block_type& b) {
            float dk[HeadDim / 2] = {}, dv[HeadDim / 2] = {};  // else products under way would meet a register that nobody wrote
            key_ring.wait_full({0, walks & 1});
            if (b.tiles > 0) walk(b, dk, dv);
            ptx::barrier_wait(1, 128 * shape::groups);  // nobody reads dSᵀ any more
            key_ring.free_as_warp({}, lane());
            const std::uint32_t room = base + memory::map + map_tile::offset(warp_key(), 0);  // its rows of dSᵀ
            const float dv_scale = Score::dropout ? c.numbers.keep_scale : 1.0f;
            write_rows<shape::panels, HeadDim>(b, c.dv, c.dv_stride, dv, dv_scale, c.add_keys, warp_key(), room, map_tile::size);
            write_rows<shape::panels, HeadDim>(b, c.dk, c.dk_stride, dk, c.numbers.natural_scale, c.add_keys, warp_key(), room, map_tile::size);
            __syncwarp();
        });
    }
};

}  // namespace longspan::cuda::hopper::detail
