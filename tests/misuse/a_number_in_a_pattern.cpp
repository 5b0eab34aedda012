// SPDX-License-Identifier: Apache-2.0
// expect: both sides of & are patterns, as in ls::causal & (ls::window<512> | ls::first<16>)
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto attention = ls::causal & 512;
#else
constexpr auto attention = ls::causal & ls::window<512>;
#endif
