// SPDX-License-Identifier: Apache-2.0
// expect: then(): the policy before it is for all blocks; say for how many, with for_blocks<n>()
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/selective.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto checkpoint = ls::selective.then(ls::store_all);
#else
constexpr auto checkpoint = ls::selective.for_blocks<2>().then(ls::store_all);
#endif
static_assert(sizeof(checkpoint) == 1);
