// SPDX-License-Identifier: Apache-2.0
// expect: policies: ls::reversible takes a model of two streams: config.shape.residual = ls::residual_kind::two_streams
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/reversible.hpp>
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
constexpr auto list = ls::policies<ls::store_all, ls::reversible>;
#else
constexpr auto list = ls::policies<ls::store_all>;
#endif
static_assert(ls::choose<base, ls::host::cpu>(ls::GiB, 0, list, ls::budgets<1024>).tokens == 1024);
