// SPDX-License-Identifier: Apache-2.0
// expect: warm_up: count it in the unit of what follows: steps, or tokens
#include <longspan/optim/schedule.hpp>
namespace ls = longspan;

constexpr ls::cosine rest{.peak = 1e-3, .over = ls::in_steps(100)};
#ifdef MISUSE
constexpr auto schedule = ls::warm_up{ls::in_tokens(4096)}.then(rest);
#else
constexpr auto schedule = ls::warm_up{ls::in_steps(10)}.then(rest);
#endif
