// SPDX-License-Identifier: Apache-2.0
// expect: policies: the for_blocks<n>() of one of them name more blocks than config.shape.layers has, or leave some to none
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/model/fit.hpp>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

struct base {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
#ifdef MISUSE
constexpr auto list = ls::policies<ls::store_all.for_blocks<2>()>;
#else
constexpr auto list = ls::policies<ls::store_all.for_blocks<4>()>;
#endif
static_assert(ls::choose<base, ls::host::cpu>(ls::GiB, 0, list, ls::budgets<1024>).tokens == 1024);
