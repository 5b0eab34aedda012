// SPDX-License-Identifier: Apache-2.0
// expect: bf16_gradients(): the format of sums that are kept; by_bucket() keeps none
#include <longspan/precision/update_storage.hpp>
namespace ls = longspan;

#ifdef MISUSE
constexpr auto update = ls::moments<ls::bf16>.by_bucket().bf16_gradients();
#else
constexpr auto update = ls::moments<ls::bf16>.bf16_gradients();
#endif
static_assert(ls::is_update_storage<std::remove_cvref_t<decltype(update)>>);
