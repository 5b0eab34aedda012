// SPDX-License-Identifier: Apache-2.0
//
// Whole steps of the device against PyTorch's (fixtures/make.py), as model/against_pytorch.cpp holds the host's. Llama's heads of 64
// take Hopper's attention in bf16; float, and GPT-2's heads of 16, take the portable one.
#include <doctest/doctest.h>

#include <longspan/cuda/trainer.cuh>

#include "../fixtures/against_pytorch.hpp"

namespace against_pytorch {
namespace {

/// As near as the host, which rounds the operands and outputs of products and accumulates in float.
template <decoder_shape Shape, class Device>
void is_as_exact_as_the_host() {
    const auto [gradients, logits] = is_as_exact_in_bf16<Shape, Device>();
    const auto [host_gradients, host_logits] = is_as_exact_in_bf16<Shape, host::cpu>();
    MESSAGE("beside the host's: gradients " << gradients / host_gradients << ", logits " << logits / host_logits);
    CHECK(gradients <= 1.05 * host_gradients);
    CHECK(logits <= 1.05 * host_logits);
}

}  // namespace

TEST_CASE("cuda against PyTorch: GPT-2 in float") { is_as_exact_in_float<gpt2, cuda::device>(); }
TEST_CASE("cuda against PyTorch: Llama in float") { is_as_exact_in_float<llama, cuda::device>(); }
TEST_CASE("cuda against PyTorch: GPT-2 in mixed<bf16>") { is_as_exact_as_the_host<gpt2, cuda::device>(); }
TEST_CASE("cuda against PyTorch: Llama in mixed<bf16> on Hopper's tensor cores") {
    static_assert(cuda::device::on_hopper<model_of_config<config<llama, mixed<bf16>>>>);
    is_as_exact_as_the_host<llama, cuda::device>();
}
TEST_CASE("cuda against PyTorch: Llama in mixed<bf16> with the portable attention") { is_as_exact_as_the_host<llama, cuda::portable_device>(); }

}  // namespace against_pytorch
