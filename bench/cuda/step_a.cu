// SPDX-License-Identifier: Apache-2.0
//
// Model A: 16 documents of 4,096 tokens, and 2 of 32,768.
#include "models.hpp"
#include "step.cuh"

int main() {
    step_bench::run<models::a<65536, 4096>>("A 16x4096", 4096);
    step_bench::run<models::a<65536, 32768>>("A 2x32768", 32768);
    step_bench::run<models::a<65536, 4096>, longspan::cuda::portable_device>("A 16x4096", 4096);
    step_bench::run<models::a<65536, 32768>, longspan::cuda::portable_device>("A 2x32768", 32768, 6);
}
