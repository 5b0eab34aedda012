// SPDX-License-Identifier: Apache-2.0
//
// A config for an NVIDIA GPU, as all files of the program see it: 24 million parameters, and a context of 16,384 bytes under a window.
#pragma once

#include <longspan/cuda/trainer.hpp>
#include <longspan/longspan.hpp>

namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 8, .width = 512, .heads = 8, .key_value_heads = 4, .hidden = 1408, .vocabulary = 256, .context = 16384};
    static constexpr auto attention = ls::causal & (ls::window<1024> | ls::first<64>);
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<65536>;
};
static_assert(ls::plan<config, ls::cuda::device>.peak() <= 8 * ls::GiB);

LONGSPAN_EXTERN(config);
