// SPDX-License-Identifier: Apache-2.0
// The whole step of a small model with the portable kernels, which tests/checks/ampere compiles for sm_80.
#include <longspan/cuda/trainer.cuh>
#include <longspan/longspan.hpp>

namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 256, .heads = 4, .key_value_heads = 2, .hidden = 512, .vocabulary = 1000,
                                                    .context = 1024, .qk_norm = true, .loss_chunk = 1024};
    static constexpr auto attention = ls::causal & ls::window<256>;
    static constexpr auto checkpoint = ls::recompute_every<1>;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<4096>;
};

// A thread block of an A100 has 163 KiB of shared memory: heads of 64 to 256 fit both ways, in two bytes and, to 128, in floats.
using pattern = std::remove_const_t<decltype(ls::causal & (ls::window<20> | ls::first<3>))>;
using every_option = ls::score<true, true, true, true>;
template <class F, int Head>
inline constexpr bool fits =
    ls::cuda::detail::forward_memory<F, Head, every_option, ls::key_capacity<pattern>>::size <= 163 * 1024 &&
    ls::cuda::detail::query_gradient_memory<F, Head, every_option, ls::key_capacity<pattern>>::size <= 163 * 1024 &&
    ls::cuda::detail::key_gradient_memory<F, Head, every_option, ls::query_capacity<pattern>,
                                          ls::cuda::detail::all_together<pattern, F, Head, every_option>>::size <= 163 * 1024;
static_assert(ls::cuda::detail::most_shared_memory == 163 * 1024);
static_assert(fits<ls::bf16, 64> && fits<ls::bf16, 128> && fits<ls::bf16, 256> && fits<float, 64> && fits<float, 128>);

double loss_of_a_step(const ls::token_batch& batch) {
    ls::trainer<config, ls::cuda::portable_device> trainer{ls::seed{1}};
    return trainer.step(batch).loss;
}
