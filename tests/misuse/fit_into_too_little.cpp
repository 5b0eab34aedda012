// SPDX-License-Identifier: Apache-2.0
// expect: fit: none of the policies at any of the budgets fits into the room; budgets are at least the context
#include <longspan/longspan.hpp>
namespace ls = longspan;

struct base {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 64, .heads = 4, .hidden = 128, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};
#ifdef MISUSE
using config = ls::fit<base, ls::host::cpu, ls::MiB>;
#else
using config = ls::fit<base, ls::host::cpu, 64 * ls::MiB>;
#endif
static_assert(config::batch.budget == 1024);
