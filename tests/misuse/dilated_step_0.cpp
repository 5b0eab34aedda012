// SPDX-License-Identifier: Apache-2.0
// expect: dilated_window<W, S>: keys lie S apart, so S is at least 1
#include <longspan/pattern/strided.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto attention = ls::dilated_window<4, 0>;
#else
constexpr auto attention = ls::dilated_window<4, 1>;
#endif
static_assert(ls::pattern<ls::pattern_of<attention>>);
