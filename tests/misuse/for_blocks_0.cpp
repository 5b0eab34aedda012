// SPDX-License-Identifier: Apache-2.0
// expect: for_blocks<n>: a policy is for at least 1 block
#include <longspan/checkpoint/selective.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto checkpoint = ls::selective.for_blocks<0>();
#else
constexpr auto checkpoint = ls::selective.for_blocks<1>();
#endif
static_assert(sizeof(checkpoint) == 1);
