// SPDX-License-Identifier: Apache-2.0
// expect: longspan: carry() lays documents end to end, which is a way of packing; use it with packed<Budget>.
#include <longspan/batch/strategy.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto batch = ls::padded<1024>.carry();
#else
constexpr auto batch = ls::packed<1024>.carry();
#endif
static_assert(batch.budget == 1024);
