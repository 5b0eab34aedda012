// SPDX-License-Identifier: Apache-2.0
// The rest of that program needs no nvcc: it plans a run for a GPU, and uses what the kernel file gives.
#include <longspan/cuda/device.hpp>
#include <longspan/longspan.hpp>

#include <cmath>
#include <iostream>
#include <vector>

namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{.layers = 2, .width = 256, .heads = 4, .hidden = 512, .vocabulary = 256, .context = 64};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<4096>;
};
static_assert(ls::plan<config, ls::cuda::device>.peak() < ls::GiB);

std::vector<float> normed(const std::vector<float>& x);

int main() {
    std::vector<float> x(256);
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = std::sin(static_cast<float>(i));
    const std::vector<float> y = normed(x);
    if (y.empty()) {
        std::cout << "compiled and linked; not run: no NVIDIA GPU answers\n";
        return 77;
    }
    double squares = 0;
    for (const float value : y) squares += static_cast<double>(value) * static_cast<double>(value);
    std::cout << "mean square " << squares / 256 << '\n';
    return std::abs(squares / 256 - 1) < 1e-5 ? 0 : 1;
}
