// SPDX-License-Identifier: Apache-2.0
//
// GPT-2 124M: 64 documents of 1,024 tokens.
#include "models.hpp"
#include "step.cuh"

int main() {
    step_bench::run<models::gpt2<65536, 1024>>("GPT-2 64x1024", 1024);
    step_bench::run<models::gpt2<65536, 1024>, longspan::cuda::portable_device>("GPT-2 64x1024", 1024);
}
