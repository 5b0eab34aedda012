// SPDX-License-Identifier: Apache-2.0
// expect: window<W>: a query sees at least itself, so W is at least 1
#include <longspan/pattern/band.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto attention = ls::window<0>;
#else
constexpr auto attention = ls::window<1>;
#endif
static_assert(ls::pattern<ls::pattern_of<attention>>);
