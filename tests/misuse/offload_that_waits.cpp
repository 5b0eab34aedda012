// SPDX-License-Identifier: Apache-2.0
// expect: config.checkpoint: what offload keeps of a segment leaves for the host slower than the next segment runs (microseconds a thousand tokens)
#include <longspan/model/hiding.hpp>
#include <longspan/longspan.hpp>
#include <longspan/cuda/device.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 256, .heads = 4, .hidden = 704, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
#ifdef MISUSE
    static constexpr auto checkpoint = ls::offload<ls::selective>;
#else
    static constexpr auto checkpoint = ls::offload<ls::selective>.even_if_slow();
#endif
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_hiding<config, ls::cuda::device>());
#ifndef MISUSE
static_assert(ls::plan<config, ls::cuda::device>.pinned > 0);
#endif
