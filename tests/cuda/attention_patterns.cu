// SPDX-License-Identifier: Apache-2.0
#include "attention_asked.cuh"

namespace cuda_test {

using namespace longspan;
using asked = asked_of_attention<attention_problem, 64>;

TEST_CASE("attention: windows, and windows with global keys") {
    asked::pattern(causal & window<100>, 1);
    asked::pattern(causal & (window<50> | first<20>), 2);
}

TEST_CASE("attention: prefixes, read from device memory") { asked::prefixes(); }
TEST_CASE("attention: patterns whose sides disagree about empty tiles") { asked::sides(); }
TEST_CASE("attention: lists of blocks in device memory") { asked::lists(); }
TEST_CASE("attention: a pattern's numbers may stand in device memory and change between calls") { asked::later_numbers(); }

}  // namespace cuda_test
