// SPDX-License-Identifier: Apache-2.0
// expect: blocks<map>: the map is an ls::block_map, as ls::block_map_of<B, Q, K>(sees) makes them
#include <longspan/pattern/blocks.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto map = 64;
#else
constexpr auto map = ls::block_map_of<64, 4>([](ls::index q, ls::index k) { return k <= q; });
#endif
using attention = ls::pattern_of<ls::blocks<map>>;
attention value;
