// SPDX-License-Identifier: Apache-2.0
//
// The backward of attention on Hopper. A thread block takes 128 keys of one key/value head and walks the live tiles of queries of
// every head of its group; dK and dV stay in registers from beginning to end:
//
//     Sᵀ = K Qᵀ,  Pᵀ = exp2(Sᵀ − lse),  dV += Pᵀ dO,  dPᵀ = V dOᵀ,  dSᵀ = Pᵀ ∘ (dPᵀ − delta),  dK += dSᵀ Q,  dQ = dS K
//
// Scores stand transposed, so that Pᵀ and dSᵀ go from sums to operands within registers; only dSᵀ passes through shared memory, for
// dQ. Warp 0 has tiles copied in; two warpgroups, each with 64 keys, multiply; warp 1 adds the tile's dQ to floats in memory, in the
// order of cuda/detail/attention_order.cuh: so the sum does not depend on timing.
#pragma once

#include <longspan/cuda/hopper/detail/backward_movers.cuh>
#include <longspan/cuda/hopper/detail/backward_products.cuh>

namespace longspan::cuda::hopper::detail {

template <class Pattern, int HeadDim, class Score, class T, class D>
__global__ void __launch_bounds__(backward_shape<HeadDim>::threads, 1)
    attention_backward(const __grid_constant__ backward_call<D, typename Pattern::arguments> c) {
    using shape = backward_shape<HeadDim>;
    constexpr int capacity = query_capacity<Pattern>;
    using memory = backward_memory<HeadDim, capacity>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const std::uint32_t base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));
    auto& runs = *reinterpret_cast<run_list<capacity>*>(shared + memory::runs);
    auto& above = *reinterpret_cast<run_list<capacity>*>(shared + memory::above);

    auto& ticket = *reinterpret_cast<unsigned*>(shared + memory::ticket);
    if (threadIdx.x == 0) {
        ticket = atomicAdd(c.counter, 1u);
        pipeline::ring<shape::slots>{base + memory::query_ring}.init(33, 4 * shape::groups);
        pipeline::ring<shape::slots>{base + memory::d_out_ring}.init(1, 4 * shape::groups);
        pipeline::ring<1>{base + memory::dq_ring}.init(4 * shape::groups, 1);
        ptx::mbarrier_init(base + memory::keys_full, 1);
        ptx::mbarrier_init(base + memory::ragged, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    const unsigned mine = ticket, total = static_cast<unsigned>(c.key_blocks[0].block);
    if (total == 0 || mine / total >= gridDim.y) return;
    const attention_block block = c.key_blocks[total - mine % total];
    // In shared memory: no role holds all of it in registers.
    auto& kept = *reinterpret_cast<key_block*>(shared + memory::block);
    {
        const attention_segment s = c.segments[block.segment];
        const index first_row = static_cast<index>(block.block) * shape::keys;
        if (threadIdx.x == 64) {
            const int live_keys = static_cast<int>(s.key_count - first_row < shape::keys ? s.key_count - first_row : shape::keys);
            kept = {s, first_row, block.block, live_keys, static_cast<int>(mine / total)};
        }
        const int side = static_cast<int>(threadIdx.x) == 32 ? 1 : 0;
        if (threadIdx.x == 0 || side != 0) {
            const index first = first_row + side * shape::keys, end = first + shape::keys < s.key_count ? first + shape::keys : s.key_count;
            (side == 0 ? runs : above).fill(query_runs<Pattern>(c.arguments(), s.ordinal, {s.key_position + first, s.key_position + end},
                                                                       {s.query_position, s.query_position + s.query_count}, shape::queries));
        }
    }
    __syncthreads();
    const key_block& b = kept;
    if (threadIdx.x < 128) {
        ptx::give_registers<shape::mover_registers>();
        if (threadIdx.x < 32) copy_backward<HeadDim>(c, b, runs, base);
        else if (threadIdx.x < 64) add_queries<Pattern, HeadDim>(c, b, runs, above, base);
    } else {
        ptx::take_registers<shape::registers>();
        multiply_backward<Pattern, HeadDim, Score, T>(c, b, runs, base);
    }
}

}  // namespace longspan::cuda::hopper::detail
