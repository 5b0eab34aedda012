// SPDX-License-Identifier: Apache-2.0
// expect: offload<policy, slots>: at least 2 slots, one for the segment that runs and one for those that leave or return meanwhile
#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/selective.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto policy = ls::offload<ls::selective, 1>;
#else
constexpr auto policy = ls::offload<ls::selective, 2>;
#endif
static_assert(policy.offloads);
