// SPDX-License-Identifier: Apache-2.0
// expect: a pattern composes with patterns only: ls::causal & ls::window<512>, not ls::causal & 512
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto attention = ls::causal & 512;
#else
constexpr auto attention = ls::causal & ls::window<512>;
#endif
