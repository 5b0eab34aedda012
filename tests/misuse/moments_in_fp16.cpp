// SPDX-License-Identifier: Apache-2.0
// expect: moments<F>: moments are stored as float, ls::bf16 or ls::eight_bit
#include <longspan/precision/update_storage.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto update = ls::moments<ls::fp16>;
#else
constexpr auto update = ls::moments<ls::bf16>;
#endif
static_assert(update.masters);
