// SPDX-License-Identifier: Apache-2.0
// expect: global<N>: at least 1 token is global, so N is at least 1
#include <longspan/pattern/strip.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto attention = ls::global<0>;
#else
constexpr auto attention = ls::global<1>;
#endif
static_assert(ls::pattern<ls::pattern_of<attention>>);
