// SPDX-License-Identifier: Apache-2.0
//
// What the optimizer's state and the gradients of eight billion parameters take on one GPU, and what is left for tokens: for every way to
// store them, the plan's bytes and the work of a step. All constants of the compiler's; no GPU is asked. For docs/memory.md.
#include <iomanip>
#include <iostream>

#include <longspan/cuda/device.hpp>
#include <longspan/longspan.hpp>

namespace ls = longspan;

namespace {

using device = ls::cuda::device;

/// Llama 3's 8 billion parameters: 32 layers, grouped heads, a vocabulary of 128,256 that is not tied.
struct llama {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 32, .width = 4096, .heads = 32, .key_value_heads = 8, .hidden = 14336, .vocabulary = 128256, .context = 8192,
        .tied = false, .rotary_base = 500000, .loss_chunk = 1024};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::recompute_every<1>;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<65536>;
};

// One line of a configuration: 4 bytes a parameter stay from step to step, and one bucket's gradients.
struct least : llama {
    static constexpr auto update = ls::moments<ls::eight_bit>.without_masters().by_bucket();
};
static_assert(ls::plan<least, device>.parameters <= 36 * ls::GiB);
static_assert(ls::plan<least, device>.peak() <= 80 * ls::GiB);

template <auto Update>
struct with : llama {
    static constexpr auto update = Update;
};

template <auto Update>
void row(const char* name) {
    using config = with<Update>;
    constexpr auto plan = ls::plan<config, device>;
    const double each = static_cast<double>(plan.parameters) / static_cast<double>(ls::parameter_count<config>);
    std::cout << "| " << std::left << std::setw(60) << name << " | " << std::right << std::fixed << std::setprecision(2) << std::setw(5) << each
              << " | " << std::setw(6) << static_cast<double>(plan.parameters) / ls::GiB << " | " << std::setw(6)
              << static_cast<double>(plan.peak()) / ls::GiB << " | " << std::setw(6) << ls::longest_within<config, device>(139 * ls::GiB) << " | "
              << std::setprecision(0) << ls::dense_flops_per_token<config> / 1e9 << " |\n";
}

}  // namespace

int main() {
    std::cout << "| update | bytes a parameter | GiB from step to step | GiB of a step | tokens within 139 GiB | dense GFLOP a token |\n"
                 "| --- | --- | --- | --- | --- | --- |\n";
    row<ls::usual_update>("usual_update");
    row<ls::moments<ls::bf16>>("moments<bf16>");
    row<ls::moments<ls::eight_bit>>("moments<eight_bit>");
    row<ls::moments<float>.without_masters()>("moments<float>.without_masters()");
    row<ls::moments<ls::bf16>.without_masters()>("moments<bf16>.without_masters()");
    row<ls::moments<ls::eight_bit>.without_masters()>("moments<eight_bit>.without_masters()");
    row<ls::moments<ls::eight_bit>.without_masters().bf16_gradients()>("moments<eight_bit>.without_masters().bf16_gradients()");
    row<ls::moments<ls::eight_bit>.without_masters().by_bucket()>("moments<eight_bit>.without_masters().by_bucket()");
    row<ls::moments<ls::eight_bit>.without_masters().by_bucket().with_norm()>("moments<eight_bit>.without_masters().by_bucket().with_norm()");
}
