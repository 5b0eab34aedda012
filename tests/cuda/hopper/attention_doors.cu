// SPDX-License-Identifier: Apache-2.0
#include "attention_cases.cuh"

#include <longspan/pattern/band.hpp>

#include "../attention_doors.cuh"

namespace cuda_test {

using hopper_attention = hopper_problem<longspan::causal_pattern, 64, longspan::score<>, bf16>;

TEST_CASE("hopper attention: rows beyond 2^31 elements") { attends_beyond_2_31<hopper_attention>(); }

TEST_CASE("hopper attention: what does not fit is refused in a sentence, and the device goes on") { refuses_what_does_not_fit<hopper_attention>(); }

}  // namespace cuda_test
