// SPDX-License-Identifier: Apache-2.0
//
// What a warpgroup of Hopper's backward does where heads are 256 wide. dK and dV of 64 keys fill the registers of both warpgroups, so
// each sums half of their columns, and half of dQ's; of Sᵀ and dPᵀ, all 64 keys by 64 queries, each makes half of the queries. Pᵀ and
// dSᵀ pass through shared memory, since either warpgroup's sums need all of them.
//
//     dP(n) = V dOᵀ                   beside   exp S(n); then dS(n), both meet
//     dV(n) dK(n) S(n+1)              one after another, and half of dQ(n)
//     the other half of dQ(n)         beside   exp S(n+1), dP(n+1); dQ leaves
#pragma once

#include <longspan/cuda/hopper/detail/backward_products.cuh>

namespace longspan::cuda::hopper::detail {

template <class Pattern, int HeadDim, class Score, class T, class Call>
struct backward_wide : backward_products<Pattern, HeadDim, Score, T, Call> {
    using common = backward_products<Pattern, HeadDim, Score, T, Call>;
    using typename common::shape, typename common::memory, typename common::block_type;
    using typename common::key_tile, typename common::query_tile, typename common::map_tile, typename common::rule_type;
    using common::c, common::base, common::group, common::tiles, common::walks, common::lane, common::at_ring, common::keys, common::values;
    static constexpr int columns = HeadDim / 2, half = shape::queries / 2;  ///< that a warpgroup sums; whose scores it makes

    using common::common;

    __device__ __forceinline__ map_tile p_tile() const { return {base + memory::map}; }
    __device__ __forceinline__ map_tile ds_tile() const { return {base + memory::map + map_tile::size}; }
    __device__ __forceinline__ query_tile d_out() const { return memory::d_out_slot(base, 0); }
    /// A warp's first key: both warpgroups have all 64.
    __device__ __forceinline__ static int warp_row() { return ptx::thread_x() / 32 % 4 * 16; }

    __device__ __forceinline__ void multiply_half(float (&sum)[half / 2], key_tile left, query_tile right) const {
        ptx::fence_products();
#pragma unroll
        for (int d = 0; d < HeadDim; d += 16) {
            ptx::multiply<T, 0, 0>(sum, left.rows_from() + key_tile::along_columns(d), right.rows_from(half * group) + query_tile::along_columns(d), d > 0);
        }
        ptx::commit_products();
    }
    /// Adds to this warpgroup's columns of dV or dK.
    __device__ __forceinline__ void multiply_keys(float (&sum)[columns / 2], map_tile left, query_tile right) const {
#pragma unroll
        for (int k = 0; k < shape::queries; k += 16) {
            ptx::multiply<T, 0, 1>(sum, left.rows_from() + map_tile::along_columns(k), right.columns_from(columns * group) + query_tile::along_rows(k), 1);
        }
        ptx::commit_products();
    }
    __device__ __forceinline__ void multiply_queries(float (&dq)[32], int pass) const {
        ptx::fence_products();
#pragma unroll
        for (int k = 0; k < shape::keys; k += 16) {
            ptx::multiply<T, 1, 1>(dq, ds_tile().columns_from() + map_tile::along_rows(k),
                                   keys().columns_from(64 * shape::part(group, pass)) + key_tile::along_rows(k), k > 0);
        }
        ptx::commit_products();
    }
    /// This warpgroup's half of Pᵀ or dSᵀ, as it will be multiplied.
    __device__ __forceinline__ void store_half(map_tile to, const float (&values)[half / 2]) const {
        const int row = warp_row() + lane() % 16, side = lane() / 16;
#pragma unroll
        for (int k = 0; k < half / 16; ++k) {
            const float* const of = values + 8 * k;
            ptx::store_matrices(to.base + map_tile::offset(row, half * group + 16 * k + side * 8), pack_pair<T>(of[0], of[1]), pack_pair<T>(of[2], of[3]),
                                pack_pair<T>(of[4], of[5]), pack_pair<T>(of[6], of[7]));
        }
    }

    /// What a tile's marks say of a lane's elements: 4j + 2h + e is key g + 8h of a warp's 16, query 8j + 2t + e of the half.
    struct marks_of_half {
        std::uint32_t statistics, seen[2];
        int tile, apart;  ///< with `tested_tile`; the first element's distance

        __device__ __forceinline__ float2 log_sum(int j) const { return ptx::load_two_floats(statistics + static_cast<std::uint32_t>(32 * j)); }
        __device__ __forceinline__ float2 delta(int j) const {
            return ptx::load_two_floats(statistics + static_cast<std::uint32_t>(4 * shape::queries + 32 * j));
        }
        __device__ __forceinline__ bool sees(int i) const { return seen[i / 2 % 2] >> (i / 4 * 8 + i % 2) & 1; }
        __device__ __forceinline__ float distance(int i) const { return static_cast<float>(common::row_step * (apart + i / 4 * 8 + i % 2 - i / 2 % 2 * 8)); }
    };
    __device__ __forceinline__ marks_of_half marks(const block_type& b, int slot) const {
        const int t = lane() % 4, row = warp_row() + lane() / 4;
        marks_of_half made;
        made.statistics = base + static_cast<std::uint32_t>(memory::statistics + slot * memory::statistics_slot + 4 * half * group + 8 * t);
        made.tile = this->entry(slot).tile;
        const std::uint32_t at = memory::seen_in(base, slot).base + static_cast<std::uint32_t>((row * memory::masks::per_row + group) * 4);
        const bool tested = made.tile & tested_tile;
        made.seen[0] = tested ? ptx::load_word(at) >> (2 * t) : ~0u;
        made.seen[1] = tested ? ptx::load_word(at + 8 * 4 * memory::masks::per_row) >> (2 * t) : ~0u;
        const index first_query = b.s.query_position + static_cast<index>(made.tile & ~tested_tile) * shape::queries + half * group;
        made.apart = rule_type::plain ? 0 : static_cast<int>(first_query - (b.s.key_position + b.first_row + row)) + 2 * t;
        return made;
    }
    /// Plain scores become probabilities; others stay what their derivative needs, capped: no head's own numbers are asked of the rule.
    __device__ __forceinline__ void raise(float (&score)[half / 2], const marks_of_half& marks, const rule_type& rule) const {
        const float factor = rule.factor();
#pragma unroll
        for (int i = 0; i < half / 2; ++i) {
            if constexpr (rule_type::plain) {
                const float2 of_query = marks.log_sum(i / 4);
                const float raised = ptx::exp2_fast(fmaf(score[i], factor, -(i % 2 == 0 ? of_query.x : of_query.y)));
                score[i] = marks.sees(i) ? raised : 0.0f;
            } else {
                score[i] = rule.capped(score[i]);
            }
        }
    }
    __device__ __forceinline__ static float probability(float score, const marks_of_half& marks, const rule_type& rule, int i) {
        if constexpr (rule_type::plain) {
            return score;
        } else {
            const float2 of_query = marks.log_sum(i / 4);
            return marks.sees(i) ? ptx::exp2_fast(rule.placed(score, marks.distance(i)) - (i % 2 == 0 ? of_query.x : of_query.y)) : 0.0f;
        }
    }

    /// Of the tile that comes next.
    __device__ __forceinline__ int entry_head() const { return rule_type::plain ? 0 : this->entry(at_ring().slot).head; }

    /// The gradients of the block's keys, this warpgroup's columns: dK but for the scale, and dV.
    __device__ __forceinline__ void walk(const block_type& b, float (&dk)[columns / 2], float (&dv)[columns / 2]) {
        const typename memory::query_ring_type query_ring{base + memory::query_ring}, mark_ring{base + memory::mark_ring};
        const typename memory::d_out_ring_type d_out_ring{base + memory::d_out_ring};
        const int reads_done = 2 + group, others_reads_done = 3 - group;  // named barriers: Pᵀ and dSᵀ may be written again
        float score[half / 2], dp[half / 2];
        query_ring.wait_full(at_ring());
        multiply_half(score, keys(), memory::query_slot(base, at_ring().slot));
        mark_ring.wait_full(at_ring());
        d_out_ring.wait_full({0, tiles & 1});
        ptx::wait_products<0>();
        ptx::pin(score);
        multiply_half(dp, values(), d_out());
        raise(score, marks(b, at_ring().slot), rule_type(c.numbers, entry_head()));
        for (int left = b.tiles;; --left) {
            const auto here = at_ring();
            const marks_of_half of = marks(b, here.slot);
            const rule_type rule(c.numbers, entry_head());
            [[maybe_unused]] typename memory::drops::sixteen kept[half / 16];
            if constexpr (Score::dropout) {
                const int thread = ptx::thread_x();
                const auto words = memory::kept_in(base, here.slot).of_lane(thread / 32 % 4, thread / 4 % 8, thread % 4);
#pragma unroll
                for (int k = 0; k < half / 16; ++k) kept[k] = words.of(half / 16 * group + k);
            }
            if (left < b.tiles) ptx::barrier_wait(others_reads_done, 128 * shape::groups);
            float p[half / 2];
#pragma unroll
            for (int i = 0; i < half / 2; ++i) {
                p[i] = probability(score[i], of, rule, i);
                if constexpr (!rule_type::plain) score[i] = rule.derivative(score[i]) * p[i];
            }
            float given[half / 2];  // to dV
#pragma unroll
            for (int i = 0; i < half / 2; ++i) {
                given[i] = p[i];
                if constexpr (Score::dropout) given[i] = kept[i / 8](i % 8) ? p[i] : 0.0f;  // and dV is scaled at the end
            }
            store_half(p_tile(), given);
            ptx::wait_products<0>();
            ptx::pin(dp);
#pragma unroll
            for (int i = 0; i < half / 2; ++i) {
                const float2 delta = of.delta(i / 4);
                const float less = i % 2 == 0 ? delta.x : delta.y;
                float sum = dp[i] - less;
                if constexpr (Score::dropout) sum = fmaf(kept[i / 8](i % 8) ? dp[i] : 0.0f, c.numbers.keep_scale, -less);
                dp[i] = (rule_type::plain ? p[i] : score[i]) * sum;
            }
            store_half(ds_tile(), dp);
            ptx::fence_async_proxy();
            ptx::barrier_wait(1, 128 * shape::groups);
            ptx::fence_products();
            const query_tile q = memory::query_slot(base, here.slot);
            multiply_keys(dv, p_tile(), d_out());
            multiply_keys(dk, ds_tile(), q);
            ++tiles;
            // Behind the last tile products are of what lies there, and nobody looks at them: whether to multiply must not be a question.
            if (left > 1) query_ring.wait_full(at_ring());
            multiply_half(score, keys(), memory::query_slot(base, at_ring().slot));
            ptx::wait_products<2>();
            ptx::pin(dv);
            d_out_ring.free_as_warp({}, lane());
            float dq[32];
            multiply_queries(dq, 0);
            ptx::wait_products<2>();
            ptx::pin(dk);
            query_ring.free_as_warp(here, lane());
            ptx::wait_products<0>();
            ptx::pin(score);
            ptx::pin(dq);
            this->hand_over(dq, 2 * tiles - 2);
            multiply_queries(dq, 1);
            if (left > 1) mark_ring.wait_full(at_ring());
            raise(score, marks(b, at_ring().slot), rule);
            if (left > 1) d_out_ring.wait_full({0, tiles & 1});
            multiply_half(dp, values(), d_out());
            ptx::wait_products<1>();
            ptx::pin(dq);
            if (left > 1) ptx::barrier_arrive(reads_done, 128 * shape::groups);
            this->hand_over(dq, 2 * tiles - 1);
            if (left == 1) {
                ptx::wait_products<0>();
                ptx::pin(dp);
                return;
            }
        }
    }
    __device__ __forceinline__ void run() {
        const typename memory::single key_ring{base + memory::key_ring};
        this->for_each_block([&](const block_type& b) {
            float dk[columns / 2] = {}, dv[columns / 2] = {};
            key_ring.wait_full({0, walks & 1});
            if (b.tiles > 0) walk(b, dk, dv);
            ptx::barrier_wait(1, 128 * shape::groups);  // nobody reads Pᵀ and dSᵀ any more
            key_ring.free_as_warp({}, lane());
            const std::uint32_t room = base + static_cast<std::uint32_t>(memory::map + (group * 64 + warp_row()) * 128);
            this->template write_rows<1, columns>(b, c.dv, c.dv_stride, dv, Score::dropout ? c.numbers.keep_scale : 1.0f, c.add_keys, warp_row(), room, 0,
                                                  columns * group);
            this->template write_rows<1, columns>(b, c.dk, c.dk_stride, dk, c.numbers.natural_scale, c.add_keys, warp_row(), room, 0, columns * group);
            ptx::barrier_wait(1, 128 * shape::groups);  // and both may write them again
        });
    }
};

}  // namespace longspan::cuda::hopper::detail
