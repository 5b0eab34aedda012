// SPDX-License-Identifier: Apache-2.0
//
// What the GPU's run of the main job trains: 17.8 million parameters in bf16, contexts of 8,192 bytes and then of 65,536, eight and one
// to a batch. Included by the program, which any C++ compiler builds, and by the .cu that holds the kernels.
#pragma once

#include <longspan/cuda/trainer.hpp>
#include <longspan/data/byte_tokens.hpp>
#include <longspan/eval/sample.hpp>
#include <longspan/longspan.hpp>

namespace gpu_job {

namespace ls = longspan;

template <ls::index Context, ls::index Budget>
struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 6, .width = 512, .heads = 8, .key_value_heads = 4, .hidden = 1408,
                                                    .vocabulary = ls::byte_tokens::vocabulary, .context = Context, .loss_chunk = 65536};
    static constexpr auto attention = ls::causal & (ls::window<2048> | ls::first<64>);
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<Budget>;
};

using short_phase = config<8192, 65536>;
using long_phase = config<65536, 65536>;
using sampling_phase = config<1024, 1024>;  // forward only: what continues a text
using phases = ls::phases<short_phase, long_phase, sampling_phase>;
using trainer = ls::trainer<phases, ls::cuda::device>;

static_assert(ls::plan<long_phase, ls::cuda::device>.peak() < 8 * ls::GiB);

}  // namespace gpu_job

LONGSPAN_EXTERN_RUN(gpu_job::phases);
LONGSPAN_EXTERN_PHASE(gpu_job::phases, gpu_job::short_phase);
LONGSPAN_EXTERN_PHASE(gpu_job::phases, gpu_job::long_phase);
extern template std::vector<double> longspan::next_token_logits<gpu_job::sampling_phase>(gpu_job::trainer&, std::span<const longspan::token_id>);
