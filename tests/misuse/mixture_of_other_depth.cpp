// SPDX-License-Identifier: Apache-2.0
// expect: config.checkpoint: its for_blocks<n>() name more blocks than config.shape.layers has, or leave some to none; the last policy needs no number
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/selective.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
#ifdef MISUSE
    static constexpr auto checkpoint = ls::recompute_every<1>.for_blocks<4>().then(ls::selective);
#else
    static constexpr auto checkpoint = ls::recompute_every<1>.for_blocks<3>().then(ls::selective);
#endif
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_config<config>());
