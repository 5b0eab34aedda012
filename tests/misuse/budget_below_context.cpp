// SPDX-License-Identifier: Apache-2.0
// expect: config.batch: the token budget is smaller than config.shape.context, so the longest piece would not fit
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal & ls::window<128>;
    static constexpr auto checkpoint = ls::recompute_every<2>;
    static constexpr auto precision = ls::fp32;
#ifdef MISUSE
    static constexpr auto batch = ls::packed<256>;
#else
    static constexpr auto batch = ls::packed<1024>;
#endif
};
static_assert(ls::check_config<config>());
