// SPDX-License-Identifier: Apache-2.0
//
// The kernels of 06_hello_on_gpu: the one file of the program that nvcc compiles.
#include "06_hello_on_gpu.hpp"

#include <longspan/cuda/trainer.cuh>

LONGSPAN_INSTANTIATE(config);
