// SPDX-License-Identifier: Apache-2.0
//
// A trainer on an NVIDIA GPU, as every file of a program but one sees it: declarations alone, for any C++ compiler, without the
// CUDA toolkit. The kernels are made where LONGSPAN_INSTANTIATE stands, in one .cu which includes cuda/trainer.cuh.
//
//     // config.hpp, included everywhere                       // train.cu, alone
//     #include <longspan/cuda/trainer.hpp>                     #include "config.hpp"
//     struct config { … };                                     #include <longspan/cuda/trainer.cuh>
//     LONGSPAN_EXTERN(config);                                 LONGSPAN_INSTANTIATE(config);
//
// A run of several phases takes an alias and a line per phase:
//
//     using run = ls::phases<brief, lengthy>;
//     LONGSPAN_EXTERN_RUN(run); LONGSPAN_EXTERN_PHASE(run, brief); LONGSPAN_EXTERN_PHASE(run, lengthy);
#pragma once

#include <longspan/cuda/device.hpp>
#include <longspan/train/trainer.hpp>

#define LONGSPAN_TRAINER_RUN(LINKAGE, RUN, DEVICE) LINKAGE template class longspan::trainer<RUN, DEVICE>
#define LONGSPAN_TRAINER_PHASE(LINKAGE, RUN, PHASE, DEVICE)                                                                                     \
    LINKAGE template longspan::step_report longspan::trainer<RUN, DEVICE>::step<PHASE>(const longspan::token_batch&);   \
    LINKAGE template longspan::step_report longspan::trainer<RUN, DEVICE>::step<PHASE>(                                 \
        std::span<const longspan::token_batch>);                                                                                        \
    LINKAGE template longspan::step_report longspan::trainer<RUN, DEVICE>::step<PHASE>(                                 \
        std::span<const longspan::token_batch>, double);                                                                                \
    LINKAGE template longspan::pending_step<longspan::trainer<RUN, DEVICE>>                                             \
    longspan::trainer<RUN, DEVICE>::submit<PHASE>(std::span<const longspan::token_batch>);                              \
    LINKAGE template longspan::pending_step<longspan::trainer<RUN, DEVICE>>                                             \
    longspan::trainer<RUN, DEVICE>::submit<PHASE>(std::span<const longspan::token_batch>, double);                      \
    LINKAGE template double longspan::trainer<RUN, DEVICE>::accumulate_gradients<PHASE>(const longspan::token_batch&,   \
                                                                                                        std::span<double>);             \
    LINKAGE template double longspan::trainer<RUN, DEVICE>::evaluate<PHASE>(const longspan::token_batch&, std::span<double>)

/// "Made elsewhere": in a header that every file includes.
#define LONGSPAN_EXTERN_RUN(RUN) LONGSPAN_TRAINER_RUN(extern, RUN, longspan::cuda::device)
#define LONGSPAN_EXTERN_PHASE(RUN, PHASE) LONGSPAN_TRAINER_PHASE(extern, RUN, PHASE, longspan::cuda::device)
#define LONGSPAN_EXTERN(CONFIG)  \
    LONGSPAN_EXTERN_RUN(CONFIG); \
    LONGSPAN_EXTERN_PHASE(CONFIG, CONFIG)

/// "Made here": in one .cu.
#define LONGSPAN_INSTANTIATE_RUN(RUN) LONGSPAN_TRAINER_RUN(, RUN, longspan::cuda::device)
#define LONGSPAN_INSTANTIATE_PHASE(RUN, PHASE) LONGSPAN_TRAINER_PHASE(, RUN, PHASE, longspan::cuda::device)
#define LONGSPAN_INSTANTIATE(CONFIG)  \
    LONGSPAN_INSTANTIATE_RUN(CONFIG); \
    LONGSPAN_INSTANTIATE_PHASE(CONFIG, CONFIG)
