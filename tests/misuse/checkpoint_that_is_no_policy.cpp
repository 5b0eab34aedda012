// SPDX-License-Identifier: Apache-2.0
// expect: config.checkpoint is a checkpointing policy: ls::store_all, ls::selective, ls::recompute_every<k>, ls::reversible or
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal & ls::window<128>;
#ifdef MISUSE
    static constexpr auto checkpoint = true;
#else
    static constexpr auto checkpoint = ls::recompute_every<2>;
#endif
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_config<config>());
