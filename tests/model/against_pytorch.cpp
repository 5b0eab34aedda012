// SPDX-License-Identifier: Apache-2.0
//
// Whole steps of the host against PyTorch's (fixtures/make.py): a GPT-2, whose layers' every option stands apart from Llama's, and a
// Llama with grouped heads.
#include <doctest/doctest.h>

#include "../fixtures/against_pytorch.hpp"

namespace against_pytorch {
namespace {

/// In double: within 1e-9 of float64, each gradient by its own norm. Ten steps add to it what AdamW makes of rounding: nothing that
/// 1e-12 would show.
template <decoder_shape Shape>
void is_the_same_in_double() {
    const fixture from = fixture_of<Shape>();
    const answers exact = answers_of_pytorch<Shape>(from, "float64");
    const answers ours = answers_of<config<Shape, fp64>, host::cpu>(from);
    double worst = 0;
    for (std::size_t i = 0; i < exact.gradients.size(); ++i) {
        const auto& truth = exact.gradients[i].elements;
        const double error = distance(ours.gradients[i].elements, truth) / norm(truth);
        CAPTURE(exact.gradients[i].name);
        CHECK(error <= 1e-9);
        worst = std::max(worst, error);
    }
    CHECK(distance(ours.logits, exact.logits) <= 1e-9 * norm(exact.logits));
    MESSAGE("distance from float64: worst gradient " << worst << ", logits " << distance(ours.logits, exact.logits) / norm(exact.logits)
                                                     << ", losses of ten steps " << worst_ratio(ours.losses, exact.losses) << ", norms "
                                                     << worst_ratio(ours.norms, exact.norms));
    CHECK(worst_ratio(ours.losses, exact.losses) <= 1e-12);
    CHECK(worst_ratio(ours.norms, exact.norms) <= 1e-12);
}

}  // namespace

TEST_CASE("against PyTorch: GPT-2 in double") { is_the_same_in_double<gpt2>(); }
TEST_CASE("against PyTorch: Llama in double") { is_the_same_in_double<llama>(); }
TEST_CASE("against PyTorch: GPT-2 in float") { is_as_exact_in_float<gpt2, host::cpu>(); }
TEST_CASE("against PyTorch: Llama in float") { is_as_exact_in_float<llama, host::cpu>(); }
TEST_CASE("against PyTorch: GPT-2 in mixed<bf16>") { (void)is_as_exact_in_bf16<gpt2, host::cpu>(); }
TEST_CASE("against PyTorch: Llama in mixed<bf16>") { (void)is_as_exact_in_bf16<llama, host::cpu>(); }

}  // namespace against_pytorch
