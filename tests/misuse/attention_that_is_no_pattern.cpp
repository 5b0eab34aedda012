// SPDX-License-Identifier: Apache-2.0
// expect: config.attention is a pattern (ls::causal & ls::window<512>) or an ls::stack of patterns
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
#ifdef MISUSE
    static constexpr auto attention = 512;
#else
    static constexpr auto attention = ls::causal & ls::window<128>;
#endif
    static constexpr auto checkpoint = ls::recompute_every<2>;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_config<config>());
