// SPDX-License-Identifier: Apache-2.0
#include "../attention_asked.cuh"
#include "attention_cases.cuh"

namespace cuda_test {

using namespace longspan;
using asked = asked_of_attention<hopper_problem, 128>;

TEST_CASE("hopper attention: windows, and windows with global keys") {
    asked::pattern(causal & window<100>, 1);
    asked::pattern(causal & (window<50> | first<20>), 2);
}

TEST_CASE("hopper attention: prefixes, read from device memory") { asked::prefixes(); }
TEST_CASE("hopper attention: patterns whose sides disagree about empty tiles") { asked::sides(); }
TEST_CASE("hopper attention: lists of blocks in device memory") { asked::lists(); }
TEST_CASE("hopper attention: lists with more runs than a block of keys has room for") { asked::long_lists(); }
TEST_CASE("hopper attention: the list of a pattern's own pairs gives its bits") {
    asked::its_own_list(causal & (window<50> | first<20>), 9);
    asked::its_own_list(causal & (strided<3> | first<2>), 10);
    asked::its_own_list(window<40> | global<5>, 11);
}
TEST_CASE("hopper attention: a pattern's numbers may stand in device memory and change between calls") { asked::later_numbers(); }

}  // namespace cuda_test
