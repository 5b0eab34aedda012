// SPDX-License-Identifier: Apache-2.0
// What somebody else's first file does: it trains a small model by three steps, and calls one op on memory of its own.
#include <longspan/longspan.hpp>

#include <cmath>
#include <iostream>
#include <string>
#include <vector>

namespace ls = longspan;

struct config {
    static constexpr auto shape =
        ls::decoder_shape{.layers = 2, .width = 32, .heads = 2, .hidden = 64, .vocabulary = 256, .context = 64};
    static constexpr auto attention = ls::causal & (ls::window<16> | ls::first<2>);
    static constexpr auto checkpoint = ls::recompute_every<1>;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<128>;
};
static_assert(ls::plan<config, ls::host::cpu>.peak() < ls::MiB * 4);

int main() {
    const std::string text(1000, 'a');
    ls::trainer<config> trainer{ls::seed{1}};
    double last = 0;
    for (const auto& batch : ls::batches<config>(ls::text_documents({text}), {.seed = 1, .steps = 3})) {
        last = trainer.step(batch).loss;
        std::cout << last << '\n';
    }

    std::vector<float> masters(5, 1.0F), gradients(5, 1.0F), first(5), second(5);
    const auto update = ls::prepare({}, ls::decay_group::vector, 1, 0.5, 1.0);
    ls::host::adamw_step(std::span(masters), std::span<float>(), gradients, first, second, update);
    return std::isfinite(last) && last < 7 && std::abs(masters[4] - 0.5F) < 1e-5F ? 0 : 1;
}
