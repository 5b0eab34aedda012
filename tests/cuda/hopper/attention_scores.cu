// SPDX-License-Identifier: Apache-2.0
#include "../attention_asked.cuh"
#include "attention_cases.cuh"

namespace cuda_test {

using namespace longspan;
using asked = asked_of_attention<hopper_problem, 64>;

TEST_CASE("hopper attention: soft-capped scores") { asked::score<causal_pattern, score<true>>(1); }
TEST_CASE("hopper attention: ALiBi") { asked::score<full_pattern, score<false, true>>(2); }
TEST_CASE("hopper attention: sinks and their gradient") { asked::score<causal_pattern, score<false, false, true>>(3); }
TEST_CASE("hopper attention: dropout draws the host's bits") { asked::score<causal_pattern, score<false, false, false, true>>(4, 1e-5, 4, 2); }
TEST_CASE("hopper attention: everything at once") {
    asked::score<full_pattern, score<true, true, true, true>>(6);
    asked_of_attention<hopper_problem, 128>::score<strided_pattern<2>, score<true, true, true, true>, fp16>(7);
}

}  // namespace cuda_test
