// SPDX-License-Identifier: Apache-2.0
// expect: longspan: the token budget of a batch is at least 1.
#include <longspan/batch/strategy.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto batch = ls::packed<0>;
#else
constexpr auto batch = ls::packed<1>;
#endif
static_assert(batch.micro_batches == 1);
