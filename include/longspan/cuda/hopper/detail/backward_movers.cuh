// SPDX-License-Identifier: Apache-2.0
//
// The warps of Hopper's backward that do not multiply. One has keys, values, queries and dO copied in; one fetches each query's
// statistics and makes, for tiles that are partial, the bits of what is seen, and for dropout, with the first, those of what is kept; it takes
// work and plans it. Two take turns in adding a tile's dQ to the sums in memory, in the order of cuda/detail/attention_order.cuh.
#pragma once

#include <limits>

#include <longspan/cuda/hopper/detail/backward_shape.cuh>
#include <longspan/cuda/ptx/ordered.cuh>
#include <longspan/pattern/block_list.hpp>

namespace longspan::cuda::hopper::detail {

template <int Capacity>
__device__ __forceinline__ bool holds(const run_list<Capacity>& list, int tile) {
    for (int i = 0; i < list.count; ++i) {
        if (tile >= list.runs[i].first && tile < list.runs[i].last) return true;
    }
    return false;
}

// Who adds to a tile of queries: blocks of keys that walk it (by `queries` of the pattern) and of which it sees a key (by `keys`). Both
// sides may name tiles in vain, and not the same; where they are known to agree, one is asked.
template <class P>
inline constexpr bool sides_agree = longspan::cuda::detail::agreed<P>;
template <int Intervals>
inline constexpr bool sides_agree<block_list_pattern<Intervals>> = true;  // walked part by part, lists name no tile in vain

/// Whether block `number` of keys walks a tile of queries.
template <class Pattern, class Shape, class Call, class Block>
__device__ __forceinline__ bool walks_tile(const Call& c, const Block& b, int number, interval queries) {
    const index first = static_cast<index>(number) * Shape::keys, left = b.s.key_count - first;
    const interval keys{b.s.key_position + first, b.s.key_position + first + (left < Shape::keys ? left : Shape::keys)};
    return touches<Pattern, false>(c.arguments(), b.s.ordinal, keys, queries);
}

/// The block that adds to these queries before block b does, the next one above; -1: none. -2: block b does not add itself.
template <class Pattern, class Shape, class Call, class Block>
__device__ __forceinline__ int block_before(const Call& c, const Block& b, interval queries) {
    constexpr bool agreed = sides_agree<Pattern>;
    if constexpr (agreed && requires { Pattern::next_key(c.arguments(), b.s.ordinal, queries, queries.begin); }) {
        const index next = Pattern::next_key(c.arguments(), b.s.ordinal, queries, b.s.key_position + (b.number + index{1}) * Shape::keys) - b.s.key_position;
        return next < b.s.key_count ? static_cast<int>(next / Shape::keys) : -1;
    }
    const interval keys{b.s.key_position, b.s.key_position + b.s.key_count};
    auto walk = runs_from<Pattern, true, int>(c.arguments(), b.s.ordinal, queries, keys, Shape::keys, b.number);
    bool own = agreed;
    for (tile_run run; walk.next(run);) {
        own = own || run.first == b.number;
        for (int i = static_cast<int>(run.first) > b.number ? static_cast<int>(run.first) : b.number + 1; i < run.last; ++i) {
            if (agreed || walks_tile<Pattern, Shape>(c, b, i, queries)) return own ? i : -2;
        }
    }
    return own ? -1 : -2;
}

/// Enters block `block` of a segment's classes of keys, after which its taker walks `left` more; by one lane.
template <int Step, int Keys, class Call, class Block>
__device__ __forceinline__ void enter_class(const Call& c, Block& b, int segment, int block, int left) {
    const attention_segment& s = c.segments[segment];
    const class_blocks<Step, Keys> all(s.key_count);
    b.segment = segment, b.block = block, b.left = left;
    b.number = all.number_of(static_cast<unsigned>(block)), b.first_row = static_cast<index>(b.number) * Keys;
    b.s = segment_of_class<Step, false>(s, all.class_of(static_cast<unsigned>(block)));
    b.sums_begin = static_cast<int>(s.query_begin + row_classes<Step>{s.query_count}.begin(b.s.query_begin - s.query_begin));
}

/// Enters the next block of work, or the end; by a whole warp. `before`: what was entered last, if anything.
template <class Pattern, int HeadDim, class Call, class Block>
__device__ __forceinline__ void plan_block(const Call& c, Block& b, [[maybe_unused]] const Block* before, bool leader) {
    using shape = backward_shape<HeadDim>;
    constexpr int step = step_of<Pattern>;
    const int lane = ptx::thread_x() & 31;
    const auto take = [&](attention_block& block) {
        const work_order::item item = c.work.take(leader);
        if (leader) b.key_head = item.head;
        if (item.head < 0) {
            __syncwarp();  // the whole warp looks whether there is an end
            return false;
        }
        const unsigned total = static_cast<unsigned>(c.work.blocks[0].block), place = static_cast<unsigned>(item.place);
        block = c.work.blocks[c.rising ? 1 + place : total - place];
        return true;
    };
    if constexpr (step == 1) {
        attention_block block;
        if (!take(block)) return;
        // The segment goes where all warps read it, so that it takes no registers here.
        constexpr int words = int{sizeof(attention_segment) / sizeof(int4)};
        if (lane < words) reinterpret_cast<int4*>(&b.s)[lane] = reinterpret_cast<const int4*>(c.segments + block.segment)[lane];
        if (leader) b.number = block.block, b.first_row = static_cast<index>(block.block) * shape::keys;
    } else if (before != nullptr && before->left > 0) {
        if (leader) {
            b.key_head = before->key_head;
            enter_class<step, shape::keys>(c, b, before->segment, before->block + (c.rising ? 1 : -1), before->left - 1);
        }
    } else {
        attention_block block;
        if (!take(block)) return;
        if (leader) {
            const class_blocks<step, shape::keys> all(c.segments[block.segment].key_count);
            const int first = static_cast<int>(all.begin(static_cast<unsigned>(block.block)));
            const int last = static_cast<int>(all.begin(static_cast<unsigned>(block.block) + 1)) - 1;
            enter_class<step, shape::keys>(c, b, block.segment, c.rising ? first : last, last - first);
        }
    }
    __syncwarp();
    constexpr bool asks_neighbour = longspan::cuda::detail::agreed<Pattern>;
    if (lane < (asks_neighbour ? 2 : 1)) {  // one lane for its own runs, one for the neighbour's
        const index first = b.first_row + (lane == 0 ? 0 : c.rising ? -shape::keys : shape::keys), left = b.s.key_count - first;
        const interval keys{b.s.key_position + first, b.s.key_position + (first < 0 ? first : first + (left < shape::keys ? left : shape::keys))};
        auto walk = runs_from<Pattern, false, int>(c.arguments(), b.s.ordinal, keys, {b.s.query_position, b.s.query_position + b.s.query_count},
                                                   shape::queries);
        const int tiles = (lane == 0 ? b.runs : b.neighbour).fill(walk);
        if (lane == 0) {
            b.live_keys = static_cast<int>(left < shape::keys ? left : shape::keys);
            b.tiles = tiles * c.group;
        }
    }
    __syncwarp();
}

/// The copying warp.
template <class Pattern, int HeadDim, bool Dropout, class Call>
__device__ __forceinline__ void copy_backward(const Call& c, std::uint32_t base) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Pattern, Dropout>;
    constexpr int step = step_of<Pattern>;
    using key_tile = typename memory::key_tile;
    using query_tile = typename memory::query_tile;
    const typename memory::query_ring_type query_ring{base + memory::query_ring};
    const typename memory::d_out_ring_type d_out_ring{base + memory::d_out_ring};
    const typename memory::work_ring_type work_ring{base + memory::work_ring};
    const typename memory::single key_ring{base + memory::key_ring};
    typename memory::query_ring_type::place at_queries;
    typename memory::d_out_ring_type::place at_d_out;
    typename memory::work_ring_type::place at_work;
    typename memory::single::place at_keys;
    [[maybe_unused]] typename memory::query_ring_type::place at_marks;
    [[maybe_unused]] philox_key drop_key{};
    if constexpr (memory::markers == 2) drop_key = c.numbers.site.key();
    const bool leader = ptx::elect();
    std::uint32_t ragged_parity = 0;
    // Rows behind the last of a segment belong to others, or to nobody: a product must not meet them, as they may not be finite.
    const auto clear_behind = [&](auto tile, int live) {
        clear_rows(tile, live);
        ptx::fence_async_proxy();
        __syncwarp();
    };
    const auto wait_ragged = [&] {
        ptx::mbarrier_wait(base + memory::ragged, ragged_parity);
        ragged_parity ^= 1;
    };

    for (;; at_work.advance()) {
        work_ring.wait_full(at_work);
        const auto& b = memory::block(static_cast<std::uint32_t>(at_work.slot));
        if (b.key_head < 0) return;
        {
            const bool ragged = b.live_keys < shape::keys;
            const std::uint32_t arrival = ragged ? base + memory::ragged : key_ring.full(at_keys);
            key_ring.wait_free(at_keys);
            if (leader) {
                ptx::mbarrier_arrive_expect(arrival, 2 * key_tile::size);
                const int row = static_cast<int>(b.s.key_begin + step * b.first_row), panel = b.key_head * (HeadDim / 64);
                c.keys.copy(base + memory::keys, row, panel, arrival);
                c.values.copy(base + memory::values, row, panel, arrival);
            }
            if (ragged) {
                wait_ragged();
                clear_behind(key_tile{base + memory::keys}, b.live_keys);
                clear_behind(key_tile{base + memory::values}, b.live_keys);
                if (leader) ptx::mbarrier_arrive(key_ring.full(at_keys));
            }
            at_keys.advance();
        }
        for_each_tile<Pattern, shape>(c, b, [&](int tile, int head, bool) {
            const index first = static_cast<index>(tile) * shape::queries, left = b.s.query_count - first;
            const int row = static_cast<int>(b.s.query_begin + step * first), live = static_cast<int>(left < shape::queries ? left : shape::queries);
            const auto copy = [&](const auto& ring, auto& at, const auto& maps, query_tile to) {
                ring.wait_free(at);
                const bool ragged = live < shape::queries;
                const std::uint32_t arrival = ragged ? base + memory::ragged : ring.full(at);
                if (leader) {
                    ptx::mbarrier_arrive_expect(arrival, query_tile::size);
                    maps.copy(to.base, row, head * (HeadDim / 64), arrival);
                }
                if (ragged) {
                    wait_ragged();
                    clear_behind(to, live);
                    if (leader) ptx::mbarrier_arrive(ring.full(at));
                }
                at.advance();
            };
            if constexpr (memory::markers == 2) at_marks = at_queries;
            copy(query_ring, at_queries, c.queries, memory::query_slot(base, at_queries.slot));
            copy(d_out_ring, at_d_out, c.d_out, memory::d_out_slot(base, at_d_out.slot));
            if constexpr (memory::markers == 2) {  // half of what is drawn is drawn here
                const drop_source source(drop_key, b.s.document, c.first_head + head, c.numbers.drop_threshold);
                memory::kept_in(base, at_marks.slot).template fill<memory::markers>(source, b.s.query_position + first, b.s.key_position + b.first_row, 1);
                __syncwarp();
                pipeline::arrive_as_warp(typename memory::query_ring_type{base + memory::mark_ring}.full(at_marks), ptx::thread_x() & 31);
            }
        });
        __syncwarp();
        work_ring.free_as_warp(at_work, ptx::thread_x() & 31);
    }
}

/// The marking warp: statistics of a tile's queries, and the words of masks. It plans the next block as soon as this one's last tile is
/// marked, two tiles before the end; not before, since other thread blocks may wait for what a plan takes.
template <class Pattern, int HeadDim, bool Dropout, class Call>
__device__ __forceinline__ void mark_backward(const Call& c, std::uint32_t base) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Pattern, Dropout>;
    constexpr int share = shape::queries / 32;  // words of a row, and queries of a lane
    constexpr int step = step_of<Pattern>;
    const typename memory::query_ring_type query_ring{base + memory::query_ring}, mark_ring{base + memory::mark_ring};
    const typename memory::work_ring_type work_ring{base + memory::work_ring};
    std::uint32_t tiles = 0;
    [[maybe_unused]] philox_key drop_key{};
    if constexpr (Dropout) drop_key = c.numbers.site.key();
    const auto word_at = [&](const auto& masks, int key, int i) {
        return masks.base + static_cast<std::uint32_t>(4 * (key * memory::masks::per_row + i));
    };
    for (std::uint32_t works = 0;; ++works) {
        const typename memory::work_ring_type::place at_work{static_cast<int>(works & 1), works >> 1 & 1};
        auto& b = memory::block(works & 1);
        work_ring.wait_free(at_work);
        plan_block<Pattern, HeadDim>(c, b, works > 0 ? &memory::block((works & 1) ^ 1) : nullptr, (ptx::thread_x() & 31) == 0);
        pipeline::arrive_as_warp(work_ring.full(at_work), ptx::thread_x() & 31);
        if (b.key_head < 0) return;
        for_each_tile<Pattern, shape>(c, b, [&](int tile, int head, bool partial) {
            const pipeline::ring_place<2> at{static_cast<int>(tiles & 1), tiles >> 1 & 1};
            ++tiles;
            const int lane = ptx::thread_x() & 31;  // asked afresh: registers are few here
            const int first = tile * shape::queries + lane;  // this lane's first query
            float2 of_query[share];
            {
                const int left = static_cast<int>(b.s.query_count) - first;
                const float2* const from = c.statistics + head * c.query_tokens + b.s.query_begin + step * first;
#pragma unroll
                for (int i = 0; i < share; ++i) of_query[i] = 32 * i < left ? from[step * 32 * i] : make_float2(std::numeric_limits<float>::infinity(), 0.0f);
            }
            query_ring.wait_free(at);
            const std::uint32_t statistics = base + static_cast<std::uint32_t>(memory::statistics + at.slot * memory::statistics_slot + 4 * lane);
#pragma unroll
            for (int i = 0; i < share; ++i) {
                ptx::store(statistics + 128 * i, __float_as_uint(of_query[i].x));
                ptx::store(statistics + 4 * shape::queries + 128 * i, __float_as_uint(of_query[i].y));
            }
            const bool tested = partial || b.live_keys < shape::keys;
            if (tested) {
                const auto seen = memory::seen_in(base, at.slot);
                const index first_key = b.s.key_position + b.first_row, first_query = b.s.query_position + (first - lane);
#pragma unroll 1
                for (int i = 0; i < share; ++i)
#pragma unroll 1
                    for (int key = lane; key < shape::keys; key += 32) {
                        ptx::store(word_at(seen, key, i), key >= b.live_keys ? 0u
                                                          : partial          ? Pattern::query_bits(c.arguments(), b.s.ordinal, first_key + key, first_query + 32 * i)
                                                                             : ~0u);
                    }
            }
            if constexpr (Dropout) {
                const drop_source source(drop_key, b.s.document, c.first_head + head, c.numbers.drop_threshold);
                memory::kept_in(base, at.slot).template fill<memory::markers>(source, b.s.query_position + (first - lane), b.s.key_position + b.first_row, 0);
            }
            if (lane == 0) {
                ptx::store(base + memory::entries + static_cast<std::uint32_t>(8 * at.slot),
                           make_float2(__int_as_float(tile | (tested ? tested_tile : 0)), __int_as_float(head)));
            }
            __syncwarp();
            pipeline::arrive_as_warp(mark_ring.full(at), lane);
        });
    }
}

/// An adding warp, number `which`: every other tile is its own, so that it may wait until its sums are in memory and say so at once. One
/// lane adds.
template <class Pattern, int HeadDim, bool Dropout, sums Sums, class Call>
__device__ __forceinline__ void add_queries(const Call& c, std::uint32_t base, std::uint32_t which) {
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Pattern, Dropout>;
    const typename memory::dq_ring_type dq_ring{base + memory::dq_ring};
    const typename memory::work_ring_type work_ring{base + memory::work_ring};
    constexpr bool ordered = Sums == sums::deterministic;
    const auto leads = [] { return (ptx::thread_x() & 31) == 0; };
    const auto add = [&](const auto& b, int tile, int head, std::uint32_t number) {
        const int first = tile * shape::queries, left = static_cast<int>(b.s.query_count) - first;
        const int live = left < shape::queries ? left : shape::queries;
        const index row = b.first_sum() + first;
        int before = -1;  // who adds before; nobody: then the sums are written over what is there
        if constexpr (!ordered) {
            before = 0;
        } else if (longspan::cuda::detail::agreed<Pattern> && holds(b.neighbour, tile)) {
            before = c.rising ? b.number - 1 : b.number + 1;
        } else if constexpr (longspan::cuda::detail::agreement_of<Pattern> != longspan::cuda::detail::agreement::band) {
            // In a band those who add are neighbours; elsewhere the next one has to be looked for.
            const index position = b.s.query_position + first;
            before = block_before<Pattern, shape>(c, b, {position, position + live});
        }
        const std::uint32_t mark = static_cast<std::uint32_t>(head * c.query_tokens + row);
        // Mostly the mark has been there for long, and is read before the sums come.
        if (ordered && before >= 0) {
            while (ptx::load_acquire(c.marks + mark) != before) {
            }
            ptx::fence_async_proxy_everywhere();
        }
#pragma unroll 1
        for (int pass = 0; pass < shape::passes; ++pass) {
            const auto at = memory::dq_turn(number * shape::passes + static_cast<std::uint32_t>(pass));
            dq_ring.wait_full(at);
#pragma unroll
            for (int i = 0; i < shape::groups && before != -2; ++i) {  // or all of it is 0
                constexpr bool by_panel = shape::panels > 1;
                const int part = shape::part(i, pass), rows = by_panel ? live : live - 64 * part;
                if (rows <= 0) continue;
                const int bytes = (rows < 64 ? rows : 64) * 256;
                float* const to = c.dq_sums + ((head * index{shape::panels} + (by_panel ? part : 0)) * c.query_tokens + row + (by_panel ? 0 : 64 * part)) * 64;
                const std::uint32_t from = base + memory::dq + static_cast<std::uint32_t>(i * memory::part);
                if (before >= 0) ptx::add_bulk(to, from, bytes);
                else ptx::store_bulk(to, from, bytes);
            }
            ptx::commit_bulk();
            ptx::wait_bulk_read<0>();
            dq_ring.free(at);
        }
        if (ordered && before != -2) {
            ptx::wait_bulk<0>();
            ptx::fence_async_proxy_everywhere();
            ptx::store_release(c.marks + mark, b.number);
        }
    };
    std::uint32_t tiles = 0;
    for (std::uint32_t works = 0;; ++works) {
        work_ring.wait_full({static_cast<int>(works & 1), works >> 1 & 1});
        const auto& b = memory::block(works & 1);
        if (b.key_head < 0) return;
        if (leads()) {
            std::uint32_t number = tiles;
            for_each_tile<Pattern, shape>(c, b, [&](int tile, int head, bool) {
                if ((number & 1) == which) add(b, tile, head, number);
                ++number;
            });
        }
        __syncwarp();
        tiles += static_cast<std::uint32_t>(b.tiles);
        work_ring.free_as_warp({static_cast<int>(works & 1), 0}, ptx::thread_x() & 31);
    }
}

}  // namespace longspan::cuda::hopper::detail
