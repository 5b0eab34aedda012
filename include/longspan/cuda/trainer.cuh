// SPDX-License-Identifier: Apache-2.0
//
// Training on an NVIDIA GPU. One .cu of a program includes this and instantiates its configuration; every other file names the
// trainer through cuda/trainer.hpp and compiles in a second or two, by any C++ compiler.
//
//     // train.cu
//     #include "config.hpp"
//     #include <longspan/cuda/trainer.cuh>
//     LONGSPAN_INSTANTIATE(config);
#pragma once

#include <longspan/cuda/ops.cuh>
#include <longspan/cuda/trainer.hpp>
