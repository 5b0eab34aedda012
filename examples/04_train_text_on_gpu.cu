// SPDX-License-Identifier: Apache-2.0
//
// The kernels of 04_train_text_on_gpu: the one file of the program that needs nvcc.
#include "04_train_text_on_gpu.hpp"

#include <longspan/cuda/trainer.cuh>

LONGSPAN_INSTANTIATE_RUN(gpu_job::phases);
LONGSPAN_INSTANTIATE_PHASE(gpu_job::phases, gpu_job::short_phase);
LONGSPAN_INSTANTIATE_PHASE(gpu_job::phases, gpu_job::long_phase);
template std::vector<double> longspan::next_token_logits<gpu_job::sampling_phase>(gpu_job::trainer&, std::span<const longspan::token_id>);
