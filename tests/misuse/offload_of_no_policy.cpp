// SPDX-License-Identifier: Apache-2.0
// expect: offload<policy>: of a policy that keeps or makes again: ls::selective, ls::recompute_every<k>, or a mixture of such
#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/recompute.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto policy = ls::offload<2>;
#else
constexpr auto policy = ls::offload<ls::recompute_every<2>>;
#endif
