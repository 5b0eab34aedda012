// SPDX-License-Identifier: Apache-2.0
// expect: config.precision is a precision policy: ls::fp32, ls::fp64, ls::tf32, ls::mixed<ls::bf16> or ls::mixed<ls::fp16>
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
#ifdef MISUSE
    static constexpr auto precision = ls::bf16{};
#else
    static constexpr auto precision = ls::fp32;
#endif
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_config<config>());
