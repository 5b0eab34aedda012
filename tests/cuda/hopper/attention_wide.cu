// SPDX-License-Identifier: Apache-2.0
// Heads of 256: the backward is a kernel of its own (hopper/detail/backward_wide.cuh).
#include "../attention_asked.cuh"
#include "attention_cases.cuh"

namespace cuda_test {

using namespace longspan;
using asked = asked_of_attention<hopper_problem, 256>;

TEST_CASE("hopper attention: heads of 256 under windows with global keys") { asked::pattern(causal & (window<50> | first<20>), 2); }
TEST_CASE("hopper attention: heads of 256, every score at once") { asked::score<full_pattern, score<true, true, true, true>, fp16>(8, 1e-5, 4, 2); }

}  // namespace cuda_test
