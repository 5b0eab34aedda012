// SPDX-License-Identifier: Apache-2.0
//
// Segments of a batch, and their schedule: for each size of block and each side, the list of blocks, the longest first as a causal
// pattern has it: a block of queries is as long as what lies before it in its segment, a block of keys as what lies behind it.
// Lists are sorted by counting: one thread block a list, O(tokens / block + segments).
#pragma once

#include <longspan/cuda/attention.cuh>
#include <longspan/cuda/check.cuh>

namespace longspan::cuda::detail {

template <int = 0>
__global__ void __launch_bounds__(256) make_segments(const piece* pieces, index count, index tokens, attention_segment* out) {
    const index i = static_cast<index>(blockIdx.x) * 256 + threadIdx.x;
    if (i >= count) return;
    const piece p = pieces[i];
    const index end = i + 1 < count ? pieces[i + 1].begin : tokens;
    out[i] = {p.begin, end - p.begin, p.position, p.begin, end - p.begin, p.position, i, p.document};
}

struct schedule_list {
    attention_block* blocks;
    index block;  ///< rows of one
    bool of_queries;
    index room;            ///< of the list
    std::int32_t* counts;  ///< three times room + 2, and one for each segment
};
struct schedule_lists {
    schedule_list of[5];
};

/// Sums over this thread and those before it, of 1024.
__device__ __forceinline__ int sum_upto(int value, int (&shared)[32]) {
    const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, value, step);
        if (lane >= step) value += other;
    }
    __syncthreads();
    if (lane == 31) shared[warp] = value;
    __syncthreads();
    for (int w = 0; w < warp; ++w) value += shared[w];
    return value;
}

/// One block of 1024 threads for each list. Where a block of length l stands follows from how many segments have at least l blocks; equal lengths stand as their segments do.
template <int = 0>
__global__ void __launch_bounds__(1024, 1) make_schedule(const attention_segment* segments, index count, const __grid_constant__ schedule_lists lists) {
    __shared__ int shared[32];
    __shared__ int carried[2];
    const int warp = static_cast<int>(threadIdx.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
    const schedule_list& list = lists.of[blockIdx.x];
    const index block = list.block;
    const bool of_queries = list.of_queries;
    const int most = static_cast<int>(list.room) + 1;  // segments that overlap may make more blocks than there is room for: such lengths are cut
    std::int32_t *const as_long = list.counts, *const before = as_long + most + 1, *const taken = before + most + 1, *const ranks = taken + most + 1;
    const auto blocks_of = [&](index i) {
        const index blocks = ceil_div(of_queries ? segments[i].query_count : segments[i].key_count, block);
        return blocks < most ? static_cast<int>(blocks) : most;
    };
    for (int l = static_cast<int>(threadIdx.x); l <= most; l += 1024) as_long[l] = taken[l] = 0;
    if (threadIdx.x == 0) carried[0] = carried[1] = 0;
    __syncthreads();
    for (index i = threadIdx.x; i < count; i += 1024) {
        if (const int blocks = blocks_of(i); blocks > 0) atomicAdd(as_long + blocks, 1);
    }
    __syncthreads();
    // From the longest down: segments with at least l blocks, and blocks longer than l.
    for (int top = most; top > 0; top -= 1024) {
        const int l = top - static_cast<int>(threadIdx.x);
        const int segments_here = sum_upto(l > 0 ? as_long[l] : 0, shared) + carried[0];
        const int blocks_here = sum_upto(l > 0 ? segments_here : 0, shared) + carried[1];
        if (l > 0) as_long[l] = segments_here, before[l] = blocks_here - segments_here;
        __syncthreads();
        if (threadIdx.x == 1023) carried[0] = segments_here, carried[1] = blocks_here;
        __syncthreads();
    }
    // Longer segments stand first among blocks of one length. One warp counts, so that the order is always the same.
    if (warp == 0) {
        for (index base = 0; base < count; base += 32) {
            const index i = base + lane;
            const int blocks = i < count ? blocks_of(i) : 0;
            const unsigned alike = __match_any_sync(~0u, blocks);
            const int first = taken[blocks];
            __syncwarp();
            if (lane == __ffs(static_cast<int>(alike)) - 1) taken[blocks] = first + __popc(alike);
            __syncwarp();
            if (i < count) ranks[i] = (blocks < most ? as_long[blocks + 1] : 0) + first + __popc(alike & ((1u << lane) - 1));
        }
    }
    __syncthreads();
    for (index i = warp; i < count; i += 32) {
        const int blocks = blocks_of(i), rank = ranks[i];
        for (int l = 1 + lane; l <= blocks; l += 32) {
            const int to = before[l] + rank;
            if (to < list.room) list.blocks[1 + to] = {static_cast<std::int32_t>(i), of_queries ? l - 1 : blocks - l};
        }
    }
    const int total = carried[1] < list.room ? carried[1] : static_cast<int>(list.room);
    if (threadIdx.x == 0) list.blocks[0] = {0, total};
    for (index i = total + static_cast<index>(threadIdx.x); i < list.room; i += 1024) list.blocks[1 + i] = {-1, 0};
}

}  // namespace longspan::cuda::detail

namespace longspan::cuda {

inline void schedule_segments(stream_ref stream, attention_segment* segments, index count, index query_tokens, index key_tokens) {
    using namespace detail;
    if (count <= 0) return;
    expect_pointer("attention segments", "segments", segments, 16);
    expects(query_tokens >= 0 && key_tokens >= 0 && query_tokens < index{1} << 36 && key_tokens < index{1} << 36 && count < index{1} << 30, [&] {
        return "attention segments: expected fewer than 2^36 tokens and 2^30 segments, got " + std::to_string(query_tokens) + ", " +
               std::to_string(key_tokens) + " and " + std::to_string(count);
    });
    const schedule_layout at = schedule_of(query_tokens, key_tokens, count);
    std::int32_t* counts = reinterpret_cast<std::int32_t*>(reinterpret_cast<std::byte*>(segments) + at.counts);
    const auto list = [&](bytes offset, index block, bool of_queries) {
        const index tokens = of_queries ? query_tokens : key_tokens;
        const schedule_list made{reinterpret_cast<attention_block*>(reinterpret_cast<std::byte*>(segments) + offset), block, of_queries,
                                 most_blocks(tokens, count, block), counts};
        counts += schedule_counts(tokens, count, block);
        return made;
    };
    const schedule_lists lists{{list(at.short_queries, short_block, true), list(at.long_queries, long_block, true), list(at.wide_queries, wide_block, true),
                                list(at.short_keys, short_block, false), list(at.long_keys, long_block, false)}};
    make_schedule<><<<5, 1024, 0, stream>>>(segments, count, lists);
    check_launch("attention segments");
}

inline void self_attention_segments(stream_ref stream, const piece* pieces, index count, index tokens, attention_segment* out) {
    using namespace detail;
    if (count <= 0) return;
    expect_pointer("attention segments", "pieces", pieces, alignof(piece));
    expect_pointer("attention segments", "segments", out, 16);
    make_segments<><<<static_cast<unsigned>(ceil_div(count, 256)), 256, 0, stream>>>(pieces, count, tokens, out);
    check_launch("attention segments");
    schedule_segments(stream, out, count, tokens, tokens);
}

}  // namespace longspan::cuda
