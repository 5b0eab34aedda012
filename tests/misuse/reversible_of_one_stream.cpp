// SPDX-License-Identifier: Apache-2.0
// expect: config.checkpoint = ls::reversible makes a block's input of its output, which takes a model of two streams
#include <longspan/longspan.hpp>
namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512,
#ifdef MISUSE
        .residual = ls::residual_kind::one_stream
#else
        .residual = ls::residual_kind::two_streams
#endif
    };
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::reversible;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
static_assert(ls::check_config<config>());
