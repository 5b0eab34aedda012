// SPDX-License-Identifier: Apache-2.0
// expect: recompute_every<k>: a segment has at least 1 block; to keep everything choose store_all
#include <longspan/checkpoint/recompute.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto checkpoint = ls::recompute_every<0>;
#else
constexpr auto checkpoint = ls::recompute_every<1>;
#endif
static_assert(sizeof(checkpoint) == 1);
