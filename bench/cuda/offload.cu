// SPDX-License-Identifier: Apache-2.0
//
// What it costs that kept tensors leave for pinned host memory: the copies' bandwidth, alone and both ways at once, and whole steps of model B
// within a window of 1,024 with what a policy keeps on the device and away, in turn. The losses of one budget can be compared.
//     bench_cuda_offload            bandwidth, and steps of 65,536 and 524,288 tokens
//     bench_cuda_offload long       model A, causal, one document of 1,048,576 tokens: a step of minutes
#include <string_view>

#include "models.hpp"
#include "step.cuh"

namespace {

namespace ls = longspan;
using device = ls::cuda::device;

template <class Model, auto Policy>
struct under : Model {
    static constexpr auto checkpoint = Policy;
};
template <ls::index Tokens>
struct within : models::b<Tokens, Tokens> {
    static constexpr auto attention = ls::causal & ls::window<1024>;
};

void bandwidth() {
    constexpr ls::bytes size = ls::GiB;
    device::runtime on(2 * size, 0, 2 * size);
    const auto time = [&](const char* name, ls::bytes moved, auto&& copy) {
        cudaEvent_t from, to;
        cudaEventCreate(&from);
        cudaEventCreate(&to);
        copy();
        cudaEventRecord(from, on.stream());
        for (int i = 0; i < 8; ++i) copy();
        cudaEventRecord(to, on.stream());
        on.wait();
        float ms = 0;
        cudaEventElapsedTime(&ms, from, to);
        std::printf("{\"name\": \"%s\", \"gb_per_second\": %.1f}\n", name, 8e-6 * static_cast<double>(moved) / ms);
        cudaEventDestroy(from);
        cudaEventDestroy(to);
    };
    const ls::cuda::copies& copies = *on.copies();
    const auto whole = [&](ls::bytes at) {
        return [&on, at](auto&& copy) { copy(on.memory().data() + at, on.pinned().data() + at, size); };
    };
    const auto leave = [&] { copies.leave(on.stream(), 0, whole(0)); };
    const auto fetch = [&] { copies.fetch(on.stream(), 1, whole(size)); };
    const auto wait = [&](int number) { copies.wait(on.stream(), number); };
    time("to the host", size, [&] { leave(), wait(0); });
    time("from the host", size, [&] { fetch(), wait(1); });
    time("both ways", 2 * size, [&] { leave(), fetch(), wait(0), wait(1); });
}

template <class Config>
void run(const char* name, int steps) {
    step_bench::run<Config>(name, Config::batch.budget, steps);
}

}  // namespace

int main(int count, char** words) {
    if (count > 1 && std::string_view(words[1]) == "long") {
        step_bench::run_once<under<models::a<1048576, 1048576>, ls::offload<ls::selective, 3>>>("A 1x1048576 offload<selective, 3>", false);
        return 0;
    }
    bandwidth();
    run<under<within<65536>, ls::selective>>("B 1x65536, window 1024, selective", 6);
    run<under<within<65536>, ls::offload<ls::selective>>>("B 1x65536, window 1024, offload<selective>", 6);
    run<under<within<65536>, ls::recompute_every<1>>>("B 1x65536, window 1024, recompute_every<1>", 6);
    run<under<within<65536>, ls::offload<ls::recompute_every<1>>>>("B 1x65536, window 1024, offload<recompute_every<1>>", 6);
    run<under<within<524288>, ls::selective>>("B 1x524288, window 1024, selective", 2);
    run<under<within<524288>, ls::offload<ls::selective>>>("B 1x524288, window 1024, offload<selective>", 2);
}
