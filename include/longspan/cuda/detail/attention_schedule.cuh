// SPDX-License-Identifier: Apache-2.0
//
// Segments of a batch, and their schedule: for each size of block and each side, the list of blocks in the order in which they
// should start. Blocks of keys ascend and blocks of queries descend: the longest first under a causal pattern.
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
    index room;
};

/// Sums over the 1024 threads before this one, and over all.
struct block_sums {
    int before, all;
};
__device__ __forceinline__ block_sums sum_before(int value, int (&shared)[33]) {
    const int lane = static_cast<int>(threadIdx.x) & 31, warp = static_cast<int>(threadIdx.x) >> 5;
    int upto = value;
    for (int step = 1; step < 32; step *= 2) {
        const int other = __shfl_up_sync(~0u, upto, step);
        if (lane >= step) upto += other;
    }
    __syncthreads();
    if (lane == 31) shared[warp] = upto;
    __syncthreads();
    int before = 0, all = 0;
    for (int w = 0; w < 32; ++w) {
        if (w < warp) before += shared[w];
        all += shared[w];
    }
    return {before + upto - value, all};
}

/// One block of 1024 threads for each list: short and long blocks of queries, short and long blocks of keys.
template <int = 0>
__global__ void __launch_bounds__(1024, 1) make_schedule(const attention_segment* segments, index count, schedule_list short_queries,
                                                         schedule_list long_queries, schedule_list short_keys, schedule_list long_keys) {
    __shared__ int warps[33];
    __shared__ int first[1024];
    const int which = static_cast<int>(blockIdx.x), warp = static_cast<int>(threadIdx.x) >> 5, lane = static_cast<int>(threadIdx.x) & 31;
    const index block = which % 2 == 0 ? short_block : long_block;
    const bool of_queries = which < 2;
    const schedule_list room = which == 0 ? short_queries : which == 1 ? long_queries : which == 2 ? short_keys : long_keys;
    attention_block* const list = room.blocks;
    const auto blocks_of = [&](index i) {
        return i < count ? static_cast<int>(ceil_div(of_queries ? segments[i].query_count : segments[i].key_count, block)) : 0;
    };
    int total = 0;
    for (index base = 0; base < count; base += 1024) total += sum_before(blocks_of(base + threadIdx.x), warps).all;

    int begin = 0;
    for (index base = 0; base < count; base += 1024) {
        const block_sums sums = sum_before(blocks_of(base + threadIdx.x), warps);
        first[threadIdx.x] = begin + sums.before;
        __syncthreads();
        begin += sums.all;
        for (int i = warp; i < 1024 && base + i < count; i += 32) {
            const int at = first[i], blocks = blocks_of(base + i);
            for (int b = lane; b < blocks; b += 32) {
                const index to = of_queries ? total - 1 - (at + b) : at + b;
                if (to < room.room) list[1 + to] = {static_cast<std::int32_t>(base + i), b};  // segments that overlap may be too many
            }
        }
        __syncthreads();
    }
    if (threadIdx.x == 0) list[0] = {0, static_cast<std::int32_t>(total < room.room ? total : room.room)};
    for (index i = total + static_cast<index>(threadIdx.x); i < room.room; i += 1024) list[1 + i] = {-1, 0};
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
    const auto list = [&](bytes offset, index tokens, index block) {
        return schedule_list{reinterpret_cast<attention_block*>(reinterpret_cast<std::byte*>(segments) + offset), most_blocks(tokens, count, block)};
    };
    make_schedule<><<<4, 1024, 0, stream>>>(segments, count, list(at.short_queries, query_tokens, short_block),
                                            list(at.long_queries, query_tokens, long_block), list(at.short_keys, key_tokens, short_block),
                                            list(at.long_keys, key_tokens, long_block));
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
