// SPDX-License-Identifier: Apache-2.0
// expect: the step fits in 16 MiB
#include <longspan/longspan.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape =
        ls::decoder_shape{.layers = 2, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal & ls::window<128>;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
#ifdef MISUSE
    static constexpr auto batch = ls::packed<65536>;
#else
    static constexpr auto batch = ls::packed<1024>;
#endif
};
static_assert(ls::plan<config, ls::host::cpu>.peak() <= 16 * ls::MiB, "the step fits in 16 MiB");
