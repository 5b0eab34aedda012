// SPDX-License-Identifier: Apache-2.0
// expect: config.update: by_bucket() uses gradients before another micro-batch could add to them; config.batch has accumulate<n>()
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
#ifdef MISUSE
    static constexpr auto batch = ls::packed<1024>.accumulate<2>();
#else
    static constexpr auto batch = ls::packed<1024>;
#endif
    static constexpr auto update = ls::moments<ls::eight_bit>.by_bucket();
};
static_assert(ls::check_config<config>());
