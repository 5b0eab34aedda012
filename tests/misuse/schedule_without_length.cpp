// SPDX-License-Identifier: Apache-2.0
// expect: cosine: expected to last at least 1
#include <longspan/optim/schedule.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto schedule = ls::cosine{.peak = 1e-3}.check();
#else
constexpr auto schedule = ls::cosine{.peak = 1e-3, .over = ls::in_steps(100)}.check();
#endif
