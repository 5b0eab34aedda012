// SPDX-License-Identifier: Apache-2.0
// expect: even_if_slow(): of an offload<policy>; this policy keeps everything on the device
#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/selective.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto policy = ls::selective.even_if_slow();
#else
constexpr auto policy = ls::offload<ls::selective>.even_if_slow();
#endif
static_assert(policy.may_wait);
