// SPDX-License-Identifier: Apache-2.0
//
// The warps of Hopper's forward that do not multiply. One has live tiles of keys copied in. It takes work and walks them itself, or,
// where that takes long, follows one that walks ahead. The others follow it and make, for tiles that are partial, the bits of what is
// seen, and for dropout those of what is kept.
#pragma once

#include <longspan/cuda/hopper/detail/forward_shape.cuh>
#include <longspan/pattern/runs.hpp>

namespace longspan::cuda::hopper::detail {

/// The walk of a block: f(tile, partial) for each of its live tiles.
template <class Pattern, int Keys, class Call, class F>
__device__ __forceinline__ void for_each_tile(const Call& c, const attention_segment& s, index first_query, int live_rows, const F& f) {
    auto walk = runs_from<Pattern, true, int>(c.arguments(), s.ordinal, {first_query, first_query + live_rows},
                                              {s.key_position, s.key_position + s.key_count}, Keys);
    for (tile_run run; walk.next(run);) {
        for (int tile = static_cast<int>(run.first); tile < static_cast<int>(run.last); ++tile) f(tile, run.kind == tile_class::partial);
    }
}

/// Takes work until there is none: f(segment, first row, head) for each block of queries, when `ready` comes back. So it does once more at the
/// end: asked before the end is, it costs the fewest registers.
template <class Pattern, int Queries, class Call, class Ready, class F>
__device__ __forceinline__ void for_each_block(const Call& c, bool leader, const Ready& ready, const F& f) {
    constexpr int step = step_of<Pattern>;
    for (work_order::item item = c.work.take(leader);; item = c.work.take(leader)) {
        ready();
        if (item.head < 0) return;
        if constexpr (step == 1) {
            const attention_block block = c.work.blocks[1 + item.place];
            const attention_segment s = c.segments[block.segment];
            f(s, static_cast<index>(block.block) * Queries, item.head);
        } else {
            for (int left = -1;;) {
                // Looked up for each block: registers are few here, and a walk would have to carry it all.
                const attention_block block = c.work.blocks[1 + item.place];
                const attention_segment& s = c.segments[block.segment];
                const class_blocks<step, Queries> all(s.query_count);
                const unsigned first = all.begin(static_cast<unsigned>(block.block));
                left = (left < 0 ? static_cast<int>(all.begin(static_cast<unsigned>(block.block) + 1) - first) : left) - 1;
                const unsigned here = first + static_cast<unsigned>(left);
                f(segment_of_class<step, true>(s, all.class_of(here)), static_cast<index>(all.number_of(here)) * Queries, item.head);
                if (left == 0) break;
                ready();
            }
        }
    }
}

/// The warp that walks ahead of the copying one: what it finds stands in a ring, so that taking work and looking up what it sees keeps no copy
/// waiting.
template <class Pattern, int HeadDim, bool Dropout, class Call>
__device__ __forceinline__ void walk_ahead(const Call& c, query_block* blocks, std::uint32_t base) {
    using shape = forward_shape<Pattern, HeadDim, Dropout>;
    using memory = forward_memory<Pattern, HeadDim, Dropout>;
    const typename memory::walk_ring walk_ring{base + memory::walk_full};
    const typename memory::work_ring work_ring{base + memory::work_full};
    typename memory::walk_ring::place at;
    typename memory::work_ring::place at_work;
    const bool leader = ptx::elect();
    const auto put = [&](int entry) {
        walk_ring.wait_free(at);
        if (leader) {
            ptx::store(base + memory::walked + 4 * at.slot, static_cast<std::uint32_t>(entry));
            ptx::mbarrier_arrive(walk_ring.full(at));
        }
        at.advance();
    };
    const auto ready = [&] { work_ring.wait_free(at_work); };
    for_each_block<Pattern, shape::queries>(c, leader, ready, [&](const attention_segment& s, index first_row, int head) {
        const int live_rows = static_cast<int>(s.query_count - first_row < shape::queries ? s.query_count - first_row : shape::queries);
        if (leader) blocks[at_work.slot] = {s, first_row, live_rows, head};
        at_work.advance();
        for_each_tile<Pattern, shape::keys>(c, s, s.query_position + first_row, live_rows, [&](int tile, bool partial) { put(tile | (partial ? tested_tile : 0)); });
        put(no_tile);
    });
    if (leader) blocks[at_work.slot].head = -1;
    put(no_tile);
}

/// The copying warp: block after block, queries, then keys of tile n + 1 before the values of tile n. It draws its share of dropout's
/// numbers where there are some: eight batches a tile are an even share for four warps, or for eight.
template <class Pattern, int HeadDim, bool Dropout, class Call>
__device__ __forceinline__ void copy_forward(const Call& c, query_block* blocks, std::uint32_t base) {
    using shape = forward_shape<Pattern, HeadDim, Dropout>;
    using memory = forward_memory<Pattern, HeadDim, Dropout>;
    using key_tile = typename memory::key_tile;
    constexpr int step = step_of<Pattern>;
    const typename memory::tile_ring key_ring{base + memory::key_full}, value_ring{base + memory::value_full}, entry_ring{base + memory::entry_full};
    const typename memory::work_ring work_ring{base + memory::work_full};
    typename memory::tile_ring::place at_keys, at_values;
    typename memory::work_ring::place at_work;
    std::uint32_t ragged_parity = 0;
    const bool leader = ptx::elect();
    [[maybe_unused]] philox_key drop_key{};
    if constexpr (Dropout) drop_key = c.numbers.site.key();

    [[maybe_unused]] const typename memory::walk_ring walk_ring{base + memory::walk_full};
    [[maybe_unused]] typename memory::walk_ring::place at_walk;
    [[maybe_unused]] const auto next_entry = [&] {
        walk_ring.wait_full(at_walk);
        const int entry = static_cast<int>(ptx::load_word(base + memory::walked + 4 * at_walk.slot));
        __syncwarp();
        walk_ring.free_as_warp(at_walk, static_cast<int>(threadIdx.x) & 31);
        at_walk.advance();
        return entry;
    };

    // One block of queries; its slot is free.
    const auto copy_block = [&](const attention_segment& s, index first_row, int head) {
        const int panel = head * (HeadDim / 64), key_panel = head / c.group * (HeadDim / 64);
        const int live_rows = static_cast<int>(s.query_count - first_row < shape::queries ? s.query_count - first_row : shape::queries);
        if (leader) {
            if constexpr (!shape::walks_ahead) blocks[at_work.slot] = {s, first_row, live_rows, head};
            ptx::mbarrier_arrive_expect(work_ring.full(at_work), memory::queries_size);
            for (int i = 0; i < shape::groups; ++i) {
                c.queries.copy(memory::query_slot(base, at_work.slot, i), static_cast<int>(s.query_begin + step * first_row) + step * 64 * i, panel, work_ring.full(at_work));
            }
        }
        at_work.advance();

        const auto copy_values = [&](int tile) {
            value_ring.wait_free(at_values);
            const key_tile to{memory::value_slot(base, at_values.slot)};
            const index first = static_cast<index>(tile) * shape::keys;
            // Rows of other documents, or of none, must not meet even a probability of 0: they may not be finite.
            const bool ragged = s.key_count - first < shape::keys;
            const std::uint32_t arrival = ragged ? base + memory::ragged : value_ring.full(at_values);
            if (leader) {
                ptx::mbarrier_arrive_expect(arrival, key_tile::size);
                c.values.copy(to.base, static_cast<int>(s.key_begin + step * first), key_panel, arrival);
            }
            if (ragged) {
                ptx::mbarrier_wait(arrival, ragged_parity);
                ragged_parity ^= 1;
                clear_rows(to, static_cast<int>(s.key_count - first));
                ptx::fence_async_proxy();
                __syncwarp();
                if (leader) ptx::mbarrier_arrive(value_ring.full(at_values));
            }
            at_values.advance();
        };
        const auto enter = [&](int entry) {
            ptx::store(base + memory::tiles + 4 * at_keys.slot, static_cast<std::uint32_t>(entry));
            ptx::mbarrier_arrive(entry_ring.full(at_keys));
        };
        const index first_query = s.query_position + first_row;
        int before = no_tile;
        const auto copy_tile = [&](int tile, bool partial) {
            const index first = static_cast<index>(tile) * shape::keys;
            key_ring.wait_free(at_keys);
            if (leader) {
                const bool tested = partial || s.key_count - first < shape::keys;
                enter(tile | (tested ? tested_tile : 0));
                ptx::mbarrier_arrive_expect(key_ring.full(at_keys), key_tile::size);
                c.keys.copy(memory::key_slot(base, at_keys.slot), static_cast<int>(s.key_begin + step * first), key_panel, key_ring.full(at_keys));
            }
            [[maybe_unused]] const auto at = at_keys;
            at_keys.advance();
            if (before != no_tile) copy_values(before);
            before = tile;
            if constexpr (Dropout) {
                const drop_source source(drop_key, s.document, c.numbers.first_head + head, c.numbers.drop_threshold);
                memory::kept_in(base, at.slot).template fill<shape::drawers>(source, first_query, s.key_position + first, shape::drawers - 1);
                __syncwarp();
                pipeline::arrive_as_warp(key_ring.full(at), static_cast<int>(threadIdx.x) & 31);
            }
        };
        if constexpr (shape::walks_ahead) {
            for (int entry = next_entry(); entry != no_tile; entry = next_entry()) copy_tile(entry & ~tested_tile, entry & tested_tile);
        } else {
            for_each_tile<Pattern, shape::keys>(c, s, first_query, live_rows, copy_tile);
        }
        key_ring.wait_free(at_keys);
        if (leader) {
            enter(no_tile);
            ptx::mbarrier_arrive(key_ring.full(at_keys));
        }
        if constexpr (Dropout) pipeline::arrive_as_warp(key_ring.full(at_keys), static_cast<int>(threadIdx.x) & 31);
        at_keys.advance();
        if (before != no_tile) copy_values(before);
    };

    if constexpr (shape::walks_ahead) {
        for (auto before = at_work;;) {
            walk_ring.wait_full(at_walk);  // for the first entry, and with it the block
            const query_block b = blocks[at_work.slot];  // a copy, since lanes may read it late
            if (b.head < 0) break;
            // A block is known before the one is done in whose place its queries come.
            if (shape::query_slots == 1 && before.slot != at_work.slot) work_ring.wait_freed(before);
            before = at_work;
            copy_block(b.s, b.first_row, b.head);
        }
    } else {
        const auto ready = [&] { work_ring.wait_free(at_work); };
        for_each_block<Pattern, shape::queries>(c, leader, ready, copy_block);
        if (leader) blocks[at_work.slot].head = -1;
    }
    if (leader) ptx::mbarrier_arrive(work_ring.full(at_work));  // the end
}

/// A marking warp, number `worker` of those.
template <class Pattern, int HeadDim, bool Dropout, class Call>
__device__ __forceinline__ void mark_forward(const Call& c, const query_block* blocks, std::uint32_t base, int worker) {
    using shape = forward_shape<Pattern, HeadDim, Dropout>;
    using memory = forward_memory<Pattern, HeadDim, Dropout>;
    const typename memory::tile_ring key_ring{base + memory::key_full}, entry_ring{base + memory::entry_full};
    const typename memory::work_ring work_ring{base + memory::work_full};
    typename memory::tile_ring::place at;
    [[maybe_unused]] philox_key drop_key{};
    if constexpr (Dropout) drop_key = c.numbers.site.key();
    for (typename memory::work_ring::place at_work;; at_work.advance()) {
        work_ring.wait_full(at_work);
        const query_block& b = blocks[at_work.slot];
        if (b.head < 0) return;
        for (bool more = true; more; at.advance()) {
            entry_ring.wait_full(at);
            const int entry = static_cast<int>(ptx::load_word(base + memory::tiles + 4 * at.slot));
            more = entry != no_tile;
            if (more) {
                const attention_segment& s = b.s;
                const index first = static_cast<index>(entry & ~tested_tile) * shape::keys, first_query = s.query_position + b.first_row;
                if (entry & tested_tile) {
                    const interval live{0, s.key_count - first};
                    memory::seen_in(base, at.slot).template fill<shape::markers>(worker, [&](int row, int w) {
                        return bits_of(live, 32 * w) & Pattern::key_bits(c.arguments(), s.ordinal, first_query + row, s.key_position + first + 32 * w);
                    });
                }
                if constexpr (Dropout) {
                    const drop_source source(drop_key, s.document, c.numbers.first_head + b.head, c.numbers.drop_threshold);
                    memory::kept_in(base, at.slot).template fill<shape::drawers>(source, first_query, s.key_position + first, worker);
                }
                __syncwarp();
            }
            pipeline::arrive_as_warp(key_ring.full(at), static_cast<int>(threadIdx.x) & 31);
        }
        __syncwarp();
        work_ring.free_as_warp(at_work, static_cast<int>(threadIdx.x) & 31);
    }
}

}  // namespace longspan::cuda::hopper::detail
