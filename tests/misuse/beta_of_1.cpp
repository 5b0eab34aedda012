// SPDX-License-Identifier: Apache-2.0
// expect: adamw: expected 0 <= beta2 < 1
#include <longspan/optim/adamw.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto optimizer = ls::adamw{.beta2 = 1.0}.check();
#else
constexpr auto optimizer = ls::adamw{.beta2 = 0.999}.check();
#endif
