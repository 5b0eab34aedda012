// SPDX-License-Identifier: Apache-2.0
//
// 00_hello on an NVIDIA GPU: the same program with another backend, in two files. This one needs no nvcc.
#include "06_hello_on_gpu.hpp"

#include <exception>
#include <iostream>
#include <string>

int main() try {
    std::string text;
    for (int verse = 9999; verse > 0; --verse) {
        text += std::to_string(verse) + " little tokens in a long, long row: one is masked away, so ";
        text += std::to_string(verse - 1) + " are left to go.\n";
    }
    ls::trainer<config, ls::cuda::device> trainer{ls::seed{42}};
    for (const auto& batch : ls::batches<config>(ls::text_documents({text}), {.seed = 42, .steps = 200})) {
        const auto report = trainer.step(batch);
        if (report.step % 20 == 1) std::cout << report << '\n';
    }
} catch (const std::exception& error) {
    std::cerr << "06_hello_on_gpu: " << error.what() << '\n';
    return 1;
}
