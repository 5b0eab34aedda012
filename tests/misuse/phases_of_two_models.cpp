// SPDX-License-Identifier: Apache-2.0
// expect: the phases of a run share one parameter store
#include <longspan/longspan.hpp>
namespace ls = longspan;

template <ls::index Width, ls::index Context>
struct config {
    static constexpr auto shape =
        ls::decoder_shape{.layers = 2, .width = Width, .heads = 4, .hidden = 128, .vocabulary = 256, .context = Context};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
#ifdef MISUSE
using run = ls::phases<config<64, 512>, config<32, 1024>>;
#else
using run = ls::phases<config<64, 512>, config<64, 1024>>;
#endif
static_assert(ls::trainer<run>::memory_needed > 0);
