// SPDX-License-Identifier: Apache-2.0
//
// The backward of attention on Hopper. A thread block takes 128 keys of one key/value head and walks the live tiles of queries of
// every head of its group, and then the next 128; dK and dV stay in registers from beginning to end:
//
//     Sᵀ = K Qᵀ,  Pᵀ = exp2(Sᵀ − lse),  dV += Pᵀ dO,  dPᵀ = V dOᵀ,  dSᵀ = Pᵀ ∘ (dPᵀ − delta),  dK += dSᵀ Q,  dQ = dS K
//
// Scores stand transposed, so that Pᵀ and dSᵀ go from sums to operands within registers; only dSᵀ passes through shared memory, for
// dQ. Two warpgroups, each with 64 keys, multiply (heads of 256: hopper/detail/backward_wide.cuh); of the other warps one has tiles
// copied in, one makes masks, and two add
// dQ to floats in memory, in the order of cuda/detail/attention_order.cuh: so the sum does not depend on timing.
#pragma once

#include <longspan/cuda/hopper/detail/backward_movers.cuh>
#include <longspan/cuda/hopper/detail/backward_products.cuh>
#include <longspan/cuda/hopper/detail/backward_wide.cuh>

namespace longspan::cuda::hopper::detail {

template <class Pattern, int HeadDim, class Score, sums Sums, class T, class D>
__global__ void __launch_bounds__(backward_shape<HeadDim>::threads, 1)
    attention_backward(const __grid_constant__ backward_call<D, Pattern> c) {
#if defined(__CUDA_ARCH__) && !defined(__CUDA_ARCH_FEAT_SM90_ALL)
    static_assert(HeadDim == 0, "longspan::cuda::hopper: wgmma needs the architecture 90a; for others name longspan::cuda::portable_device");
#endif
    using shape = backward_shape<HeadDim>;
    using memory = backward_memory<HeadDim, Pattern, Score::dropout>;
    using call = backward_call<D, Pattern>;
    extern __shared__ __align__(1024) unsigned char shared[];
    const std::uint32_t base = static_cast<std::uint32_t>(__cvta_generic_to_shared(shared));

    if (threadIdx.x == 0) {
        c.queries.prefetch();
        c.keys.prefetch();
        c.values.prefetch();
        c.d_out.prefetch();
        constexpr int of_warp = pipeline::arrivals_of_warp, multipliers = 4 * shape::groups * of_warp;
        typename memory::query_ring_type{base + memory::query_ring}.init(1, multipliers);
        typename memory::query_ring_type{base + memory::mark_ring}.init(memory::markers * of_warp, 1);
        typename memory::d_out_ring_type{base + memory::d_out_ring}.init(1, multipliers);
        typename memory::dq_ring_type{base + memory::dq_ring}.init(multipliers, 1);
        typename memory::single{base + memory::key_ring}.init(1, multipliers);
        typename memory::work_ring_type{base + memory::work_ring}.init(of_warp, multipliers + (1 + shape::adders) * of_warp);
        ptx::mbarrier_init(base + memory::ragged, 1);
        ptx::mbarrier_init_done();
    }
    __syncthreads();
    if (threadIdx.x < 128) {
        ptx::give_registers<shape::mover_registers>();
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (warp == 0) copy_backward<Pattern, HeadDim, Score::dropout>(c, base);
        else if (warp == 1) mark_backward<Pattern, HeadDim, Score::dropout>(c, base);
        else add_queries<Pattern, HeadDim, Score::dropout, Sums>(c, base, static_cast<std::uint32_t>(warp - 2));
    } else {
        ptx::take_registers<shape::registers>();
        using products = std::conditional_t<shape::wide, backward_wide<Pattern, HeadDim, Score, T, call>, backward_products<Pattern, HeadDim, Score, T, call>>;
        products(c, base).run();
    }
}

}  // namespace longspan::cuda::hopper::detail
