// SPDX-License-Identifier: Apache-2.0
//
// The forward of attention on Hopper. A thread block takes 128 queries of one head (192 where heads are 64 wide), and then the next.
// One warp has live tiles of keys copied into rings of slots; it walks them itself or, where that takes long, another walks ahead of it. The
// others of its warpgroup make masks; two or three warpgroups, each with 64 queries, multiply:
//
//     step n:   issue S(n) = Q Kᵀ(n) and O += P(n−1) V(n−1);   S(n) has come: P(n) = exp2(S(n) − peak), while O is under way
//
// and named barriers, by which they take turns, make one warpgroup's exponentials fall into the others' products.
//
// The peak that exponents are measured from follows the true maximum only when that has outgrown it by 2^8: then sums and output
// are rescaled, which is rare; what is added meanwhile stays far below any format's largest value.
#pragma once

#include <longspan/cuda/hopper/detail/forward_movers.cuh>
#include <longspan/cuda/hopper/detail/forward_products.cuh>

namespace longspan::cuda::hopper::detail {

template <class Pattern, int HeadDim, class Score, class T, class O>
__global__ void __launch_bounds__(forward_shape<Pattern, HeadDim, Score::dropout>::threads, 1)
    attention_forward(const __grid_constant__ forward_call<O, Pattern> c) {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(HeadDim == 0, "longspan::cuda::hopper: wgmma needs the architecture 90a; for others name longspan::cuda::portable_device");
#endif
    using shape = forward_shape<Pattern, HeadDim, Score::dropout>;
    using memory = forward_memory<Pattern, HeadDim, Score::dropout>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const std::uint32_t base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    query_block* const blocks = reinterpret_cast<query_block*>(shared + memory::blocks);
    const typename memory::work_ring work_ring{base + memory::work_full};

    if (threadIdx.x == 0) {
        c.queries.prefetch();
        c.keys.prefetch();
        c.values.prefetch();
        constexpr int of_warp = pipeline::arrivals_of_warp, multipliers = 4 * shape::groups * of_warp, markers = shape::markers * of_warp;
        constexpr int drawer = Score::dropout ? of_warp : 0;
        typename memory::tile_ring{base + memory::key_full}.init(1 + markers + drawer, multipliers);
        typename memory::tile_ring{base + memory::value_full}.init(1, multipliers);
        typename memory::tile_ring{base + memory::entry_full}.init(1, 1);
        work_ring.init(1, multipliers + markers);
        if constexpr (shape::walks_ahead) typename memory::walk_ring{base + memory::walk_full}.init(1, of_warp);
        ptx::mbarrier_init(base + memory::ragged, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    constexpr int multiply_end = 128 * (1 + shape::groups);
    if (threadIdx.x < 128 || threadIdx.x >= multiply_end) {
        ptx::give_registers<shape::mover_registers>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        constexpr int first_marker = shape::walks_ahead ? 2 : 1;
        if (warp == 0) {
            copy_forward<Pattern, HeadDim, Score::dropout>(c, blocks, base);
        } else if (warp < first_marker) {
            if constexpr (shape::walks_ahead) walk_ahead<Pattern, HeadDim, Score::dropout>(c, blocks, base);
        } else {
            mark_forward<Pattern, HeadDim, Score::dropout>(c, blocks, base, warp < 4 ? warp - first_marker : warp - multiply_end / 32 + 3);
        }
    } else {
        ptx::take_registers<shape::registers>();
        const int group = static_cast<int>(threadIdx.x) / 128 - 1;
        if (group == shape::groups - 1) ptx::barrier_arrive(first_turn, 256);  // the last warpgroup lets the first begin
        typename memory::tile_ring::place at_keys, at_values;
        for (typename memory::work_ring::place at;; at.advance()) {
            work_ring.wait_full(at);
            const query_block& block = blocks[at.slot];
            if (block.head < 0) break;
            multiply_forward<Pattern, HeadDim, Score, T>(c, block, {memory::query_slot(base, at.slot, group)}, at_keys, at_values, base);
            ptx::fence_async_proxy();  // out was staged where the next queries arrive
            __syncwarp();
            work_ring.free_as_warp(at, static_cast<int>(threadIdx.x) & 31);
        }
    }
}

}  // namespace longspan::cuda::hopper::detail
