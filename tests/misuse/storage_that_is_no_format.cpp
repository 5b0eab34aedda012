// SPDX-License-Identifier: Apache-2.0
// expect: adamw_step: weights are stored as float, double, ls::bf16 or ls::fp16
#include <longspan/host/adamw.hpp>
#include <vector>
namespace ls = longspan;

void update(std::vector<float>& masters, const std::vector<float>& gradients, std::vector<float>& first, std::vector<float>& second) {
#ifdef MISUSE
    std::vector<short> weights(masters.size());
#else
    std::vector<ls::bf16> weights(masters.size());
#endif
    ls::host::adamw_step(std::span(masters), std::span(weights), gradients, first, second, ls::adamw_update{});
}
