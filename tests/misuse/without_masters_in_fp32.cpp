// SPDX-License-Identifier: Apache-2.0
// expect: config.update: without_masters() rounds bf16 weights stochastically; it goes with ls::mixed<ls::bf16>.
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
#ifdef MISUSE
    static constexpr auto precision = ls::fp32;
#else
    static constexpr auto precision = ls::mixed<ls::bf16>;
#endif
    static constexpr auto batch = ls::packed<1024>;
    static constexpr auto update = ls::moments<ls::bf16>.without_masters();
};
static_assert(ls::check_config<config>());
