// SPDX-License-Identifier: Apache-2.0
#include "attention_asked.cuh"

namespace cuda_test {

using namespace longspan;
using asked = asked_of_attention<attention_problem, 64>;

TEST_CASE("attention: soft-capped scores") { asked::score<causal_pattern, score<true>>(1); }
TEST_CASE("attention: ALiBi") { asked::score<full_pattern, score<false, true>>(2); }
TEST_CASE("attention: sinks and their gradient") { asked::score<causal_pattern, score<false, false, true>>(3); }
TEST_CASE("attention: dropout draws the host's bits") { asked::score<causal_pattern, score<false, false, false, true>>(4, 1e-5, 4, 2); }
TEST_CASE("attention: everything at once, in float") {
    asked::score<both<causal_pattern, window_pattern<90>>, score<true, true, true, true>, float>(5, 4e-7);
}
TEST_CASE("attention: everything at once, in two bytes") {
    asked::score<full_pattern, score<true, true, true, true>>(6);
    asked::score<strided_pattern<2>, score<true, true, true, true>>(7);
}

}  // namespace cuda_test
