// SPDX-License-Identifier: Apache-2.0
//
// The two warps of Hopper's backward that move tiles. One has queries and dO copied in; the other adds a tile's dQ to the sums in
// memory, in the order of cuda/detail/attention_order.cuh: from the last block of keys that a tile of queries sees to the first.
#pragma once

#include <longspan/cuda/hopper/detail/backward_shape.cuh>

namespace longspan::cuda::hopper::detail {

template <int Capacity>
__device__ __forceinline__ bool holds(const run_list<Capacity>& list, int tile) {
    for (int i = 0; i < list.count; ++i) {
        if (tile >= list.runs[i].first && tile < list.runs[i].last) return true;
    }
    return false;
}

/// The first block of keys behind b that any of these queries sees; -1: none.
template <class Pattern, class Call>
__device__ __forceinline__ int next_block(const Call& c, const key_block& b, interval queries, int tile) {
    const index behind = b.s.key_position + b.first_row + tile, end = b.s.key_position + b.s.key_count;
    const auto seen = Pattern::keys(c.arguments(), b.s.ordinal, queries).any;
    for (int i = 0; i < seen.count; ++i) {
        if (seen.items[i].end <= behind) continue;
        const index at = seen.items[i].begin > behind ? seen.items[i].begin : behind;
        return at < end ? static_cast<int>((at - b.s.key_position) / tile) : -1;
    }
    return -1;
}

/// The copying warp.
template <int HeadDim, int Capacity, class Call>
__device__ __forceinline__ void copy_backward(const Call& c, const key_block& b, const run_list<Capacity>& runs, std::uint32_t base) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Capacity>;
    using key_tile = typename memory::key_tile;
    using query_tile = typename memory::query_tile;
    const pipeline::ring<shape::slots> query_ring{base + memory::query_ring}, d_out_ring{base + memory::d_out_ring};
    typename pipeline::ring<shape::slots>::place at;
    const bool leader = ptx::elect();
    const int lane = static_cast<int>(threadIdx.x) & 31;
    std::uint32_t ragged_parity = 0;
    {
        const bool ragged = b.live_keys < shape::keys;
        const std::uint32_t arrival = base + (ragged ? memory::ragged : memory::keys_full);
        if (leader) {
            ptx::mbarrier_arrive_expect(arrival, 2 * key_tile::size);
            const int row = static_cast<int>(b.s.key_begin + b.first_row), panel = b.key_head * (HeadDim / 64);
            ptx::copy_box(base + memory::keys, &c.keys, 0, row, panel, arrival);
            ptx::copy_box(base + memory::values, &c.values, 0, row, panel, arrival);
        }
        if (ragged) {
            ptx::mbarrier_wait(arrival, ragged_parity);
            ragged_parity ^= 1;
            clear_rows(key_tile{base + memory::keys}, b.live_keys);
            clear_rows(key_tile{base + memory::values}, b.live_keys);
            ptx::fence_async_proxy();
            __syncwarp();
            if (leader) ptx::mbarrier_arrive(base + memory::keys_full);
        }
    }
    for_each_tile(runs, b.key_head * c.group, c.group, [&](int tile, int head, bool) {
        const index first = static_cast<index>(tile) * shape::queries, row = b.s.query_begin + first, left = b.s.query_count - first;
        const int live = static_cast<int>(left < shape::queries ? left : shape::queries);
        const bool ragged = live < shape::queries;
        const auto copy = [&](const auto& ring, const CUtensorMap* map, std::uint32_t to) {
            const std::uint32_t arrival = ragged ? base + memory::ragged : ring.full(at);
            if (leader) {
                ptx::mbarrier_arrive_expect(arrival, query_tile::size);
                ptx::copy_box(to, map, 0, static_cast<int>(row), head * (HeadDim / 64), arrival);
            }
            if (ragged) {
                ptx::mbarrier_wait(arrival, ragged_parity);
                ragged_parity ^= 1;
                clear_rows(query_tile{to}, live);
                ptx::fence_async_proxy();
                __syncwarp();
                if (leader) ptx::mbarrier_arrive(ring.full(at));
            }
        };
        query_ring.wait_free(at);
        const float2* const from = c.statistics + head * c.query_tokens + row;
#pragma unroll
        for (int i = lane; i < shape::queries; i += 32) {
            const float2 of_query = i < live ? from[i] : make_float2(std::numeric_limits<float>::infinity(), 0.0f);
            ptx::store(base + memory::statistics + static_cast<std::uint32_t>(at.slot * memory::statistics_slot + 8 * i), of_query);
        }
        ptx::mbarrier_arrive(query_ring.full(at));  // each lane for what it wrote
        copy(query_ring, &c.queries, base + memory::queries + static_cast<std::uint32_t>(at.slot * query_tile::size));
        d_out_ring.wait_free(at);
        copy(d_out_ring, &c.d_out, base + memory::d_out + static_cast<std::uint32_t>(at.slot * query_tile::size));
        at.advance();
    });
}

/// The adding warp: one lane of it. A tile's mark is left once the tile's sums are there, while the next tile's are on their way.
template <class Pattern, int HeadDim, int Capacity, class Call>
__device__ __forceinline__ void add_queries(const Call& c, const key_block& b, const run_list<Capacity>& runs, const run_list<Capacity>& above,
                                            std::uint32_t base) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Capacity>;
    const pipeline::ring<1> dq_ring{base + memory::dq_ring};
    typename pipeline::ring<1>::place at;
    if (!ptx::elect()) return;
    std::int32_t* unmarked = nullptr;
    const auto leave = [&] {
        if (unmarked == nullptr) return;
        ptx::fence_async_proxy_everywhere();
        ptx::store_release(unmarked, b.number);
        unmarked = nullptr;
    };
    for_each_tile(runs, b.key_head * c.group, c.group, [&](int tile, int head, bool) {
        const index first = static_cast<index>(tile) * shape::queries, row = b.s.query_begin + first, left = b.s.query_count - first;
        const int live = static_cast<int>(left < shape::queries ? left : shape::queries);
        std::int32_t* const mark = c.marks + head * c.query_tokens + row;
        int before = b.number + 1;
        if (!holds(above, tile)) {
            const index position = b.s.query_position + first;
            before = next_block<Pattern>(c, b, {position, position + live}, shape::keys);
        }
        dq_ring.wait_full(at);
        if (before >= 0 && ptx::load_acquire(mark) != before) {
            if (unmarked != nullptr) ptx::wait_bulk<0>(), leave();
            while (ptx::load_acquire(mark) != before) {
            }
        }
        if (before >= 0) ptx::fence_async_proxy_everywhere();
#pragma unroll
        for (int i = 0; i < shape::groups; ++i) {
            const int half = shape::halves == 2 ? i : 0, rows = shape::halves == 2 ? live : live - 64 * i;
            if (rows <= 0) continue;
            const int bytes = (rows < 64 ? rows : 64) * 256;
            float* const to = c.dq_sums + ((head * index{shape::halves} + half) * c.query_tokens + row + (shape::halves == 2 ? 0 : 64 * i)) * 64;
            const std::uint32_t from = base + memory::dq + static_cast<std::uint32_t>(i * memory::part);
            if (before >= 0) ptx::add_bulk(to, from, bytes);
            else ptx::store_bulk(to, from, bytes);
        }
        ptx::commit_bulk();
        if (unmarked != nullptr) ptx::wait_bulk<1>(), leave();
        unmarked = mark;
        ptx::wait_bulk_read<0>();
        dq_ring.free(at);
        at.advance();
    });
    ptx::wait_bulk<0>();
    leave();
}

}  // namespace longspan::cuda::hopper::detail
