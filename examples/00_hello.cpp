// SPDX-License-Identifier: Apache-2.0
//
// The smallest training program: name a configuration, train it. It learns a page of made-up text by heart.
//
//     g++ -std=c++20 -O3 -march=native -fopenmp -I include -I /usr/include/eigen3 examples/00_hello.cpp -o hello && ./hello
#include <iostream>
#include <string>

#include <longspan/longspan.hpp>

namespace ls = longspan;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 2, .width = 64, .heads = 4, .key_value_heads = 2, .hidden = 176, .vocabulary = 256, .context = 512};
    static constexpr auto attention = ls::causal & (ls::window<128> | ls::first<4>);
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<1024>;
};

// What a step costs in memory is known before there is one.
static_assert(ls::plan<config, ls::host::cpu>.peak() <= 16 * ls::MiB);

int main() {
    std::string text;
    for (int verse = 99; verse > 0; --verse) {
        text += std::to_string(verse) + " little tokens in a long, long row: one is masked away, so ";
        text += std::to_string(verse - 1) + " are left to go.\n";
    }

    ls::trainer<config> trainer{ls::seed{42}};
    std::cout << ls::parameter_count<config> << " parameters, " << trainer.memory_needed / ls::KiB << " KiB in all\n";
    for (const auto& batch : ls::batches<config>(ls::text_documents({text}), {.seed = 42, .steps = 200})) {
        const auto report = trainer.step(batch);
        if (report.step % 20 == 1) std::cout << report << '\n';
    }
}
