// SPDX-License-Identifier: Apache-2.0
//
// A trainer of your own on an NVIDIA GPU: the loop, the memory, the stream and the optimizer are this program's; the model, forward
// and back, is longspan's. One cudaMalloc holds everything and is cut by a layout that the compiler adds up; each line of the loop
// goes to one cudaStream_t. The optimizer is Lion (arXiv:2302.06675), which longspan has not: one momentum, steps of one size.
//
//     nvcc -std=c++20 -O3 -gencode arch=compute_90a,code=sm_90a --expt-relaxed-constexpr -I include -I /usr/include/eigen3
//          examples/05_custom_trainer_on_gpu.cu -lcublasLt -o custom && ./custom
#include <cstdio>
#include <span>
#include <string>

#include <longspan/batch/loader.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/cuda/ops.cuh>
#include <longspan/data/text_documents.hpp>
#include <longspan/model/pass.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace ls = longspan;
using ls::cuda::device;

struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 256, .heads = 4, .key_value_heads = 2, .hidden = 704, .vocabulary = 256, .context = 2048};
    static constexpr auto attention = ls::causal & (ls::window<512> | ls::first<16>);
    static constexpr auto checkpoint = ls::recompute_every<2>;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<8192>;
};
using pass = ls::decoder_pass<config, device>;
using parameters = ls::parameter_layout<pass::model>;

// What this trainer holds: weights to read, masters to update, sums of gradients, one momentum, and what a pass takes in passing.
constexpr ls::bytes count = parameters::size;
constexpr ls::bytes needed = ls::together("", ls::region("state", sizeof(ls::step_state)), ls::region("weights", count * 2), ls::region("masters", count * 4),
                                          ls::region("gradients", count * 4), ls::region("momentum", count * 4),
                                          ls::pass_layout<config, device>(pass::tokens, pass::max_pieces)).peak(device::alignment);
static_assert(needed <= 256 * ls::MiB);

__global__ void lion(float* masters, ls::bf16* weights, float* momentum, const float* gradients, ls::index size, float share, float rate) {
    const ls::index i = blockIdx.x * ls::index{blockDim.x} + threadIdx.x;
    if (i >= size) return;
    const float g = share * gradients[i], m = momentum[i], direction = 0.9f * m + 0.1f * g;
    masters[i] -= rate * static_cast<float>((direction > 0) - (direction < 0));
    momentum[i] = 0.99f * m + 0.01f * g;
    weights[i] = ls::from_compute<ls::bf16>(masters[i]);
}

std::string verses() {
    std::string text;
    for (int verse = 999; verse > 0; --verse) {
        text += std::to_string(verse) + " little tokens in a long, long row: one is masked away, so " + std::to_string(verse - 1) + " are left to go.\n";
    }
    return text;
}

void train(cudaStream_t stream, std::byte* block) {
    using ls::cuda::check;
    ls::arena memory({block, static_cast<std::size_t>(needed)}, device::alignment);
    const ls::held_region state_region(memory, "state", sizeof(ls::step_state)), weight_region(memory, "weights", count * 2),
        master_region(memory, "masters", count * 4), gradient_region(memory, "gradients", count * 4), momentum_region(memory, "momentum", count * 4);
    auto* const state = state_region.as<ls::step_state>();
    auto* const weights = weight_region.as<ls::bf16>();
    const auto floats = [](const ls::held_region& region) { return std::span(region.as<float>(), static_cast<std::size_t>(count)); };
    const auto masters = floats(master_region), gradients = floats(gradient_region), momentum = floats(momentum_region);

    ls::cuda::cublas products;
    const device::ops ops(stream, products);
    ops.zero(masters);
    ops.zero(momentum);
    std::uint32_t ordinal = 0;
    parameters::for_each_place([&](const ls::parameter_place& place, const ls::parameter& p) {
        const auto values = masters.subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(p.size()));
        if (p.start == ls::initial::ones) ops.fill(values, 1.0);
        if (p.start == ls::initial::normal) ops.fill_normal(values, 42, ordinal, p.deviation);
        ++ordinal;
    });
    ops.round(masters, std::span(weights, masters.size()));

    for (ls::index step = 0; const ls::token_batch& batch : ls::batches<config>(ls::text_documents({verses()}), {.seed = 42, .steps = 201})) {
        // Pageable memory has been read when this returns. From pinned memory it would not wait for the stream either.
        const auto upload = [&](auto from, auto* to) {
            check(cudaMemcpyAsync(to, from.data(), from.size_bytes(), cudaMemcpyHostToDevice, stream), "a batch");
            return to;
        };
        ls::step_state start;
        start.keys = {.seed = 42, .step = static_cast<std::uint64_t>(step)};
        upload(std::span(&start, 1), state);
        ops.zero(gradients);
        {
            const ls::held_region room(memory, "batch", device::batch_memory(pass::tokens, pass::max_pieces));
            pass(ops, memory, state).add_gradients(ls::placed_batch::in<device>(room.data(), batch, upload), weights, gradients.data());
        }
        const auto share = static_cast<float>(1 / batch.counts.target_weight);
        lion<<<static_cast<unsigned>(ls::ceil_div(count, 256)), 256, 0, stream>>>(masters.data(), weights, momentum.data(), gradients.data(), count, share, 2e-4f);
        ls::cuda::check_launch("lion");
        if (step++ % 20 != 0) continue;

        ls::step_state now;
        check(cudaMemcpyAsync(&now, state, sizeof now, cudaMemcpyDeviceToHost, stream), "a report");
        check(cudaStreamSynchronize(stream), "a report");
        if (now.bad.any()) throw ls::bad_argument("a batch holds an id outside the vocabulary");
        std::printf("step %4lld  loss %.4f\n", static_cast<long long>(step), now.losses.loss / batch.counts.target_weight);
    }
    std::printf("planned %lld bytes, taken at most %lld\n", static_cast<long long>(needed), static_cast<long long>(memory.high_water()));
}

int main() {
    cudaStream_t stream = nullptr;
    void* block = nullptr;
    int result = 0;
    try {
        ls::cuda::expect_device(needed);
        ls::cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "a stream");
        ls::cuda::check(cudaMalloc(&block, static_cast<std::size_t>(needed)), "the trainer's block", needed);
        train(stream, static_cast<std::byte*>(block));
    } catch (const ls::error& sentence) {
        std::fprintf(stderr, "05_custom_trainer_on_gpu: %s\n", sentence.what());
        result = 1;
    }
    cudaFree(block);  // waits for what is under way
    if (stream != nullptr) cudaStreamDestroy(stream);
    return result;
}
