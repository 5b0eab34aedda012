// SPDX-License-Identifier: Apache-2.0
// expect: policies: one of them does not say what it makes twice; it needs a `made_again(cost, blocks)` as ls::segment_policy has
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/model/fit.hpp>
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

struct own_policy {
    static constexpr const char* name = "own";
    static constexpr ls::layout plan(const ls::stack_bytes& stack) { return ls::region("all", stack.blocks * stack.stream); }
#ifndef MISUSE
    static constexpr ls::index made_again(ls::cost, ls::index) { return 0; }
#endif
};
struct base {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
constexpr auto list = ls::policies<own_policy{}>;
#ifndef MISUSE
static_assert(ls::choose<base, ls::host::cpu>(ls::GiB, 0, list, ls::budgets<1024>).tokens == 1024);
#endif
