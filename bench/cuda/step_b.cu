// SPDX-License-Identifier: Apache-2.0
//
// Model B: 4 documents of 4,096 tokens.
#include "models.hpp"
#include "step.cuh"

int main() {
    step_bench::run<models::b<16384, 4096>>("B 4x4096", 4096);
    step_bench::run<models::b<16384, 4096>, longspan::cuda::portable_device>("B 4x4096", 4096);
}
