// SPDX-License-Identifier: Apache-2.0
//
// Attention on the device, forward and backward: one JSON line a case. FLOPs count live pairs: 4·d a pair and head forward, 10·d
// backward. bench/peers/attention.py prints the same cases of PyTorch.
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <random>
#include <string>
#include <vector>

#include <longspan/cuda/attention.cuh>
#include <longspan/cuda/check.cuh>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

namespace {

using longspan::bf16;
using longspan::index;
using longspan::matrix_view;
namespace cuda = longspan::cuda;

template <class T>
struct array {
    T* data = nullptr;
    explicit array(index count) { cuda::check(cudaMalloc(&data, static_cast<std::size_t>(count) * sizeof(T)), "bench", count * index{sizeof(T)}); }
    array(const array&) = delete;
    ~array() { cudaFree(data); }
};

__global__ void randomise(bf16* to, index count, std::uint64_t seed) {
    const index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const auto drawn = longspan::philox4x32(longspan::element_counter(i), longspan::key_of({.seed = seed}));
    const float u = (static_cast<float>(drawn.word[0] >> 8) + 0.5f) * 0x1p-24f, v = longspan::uniform(drawn.word[1]);
    to[i] = bf16(sqrtf(-2 * logf(u)) * cospif(2 * v));
}

struct spread {
    double p10, median, p90;
};
template <class F>
spread microseconds(cudaStream_t stream, F&& work) {
    std::vector<double> times;
    cudaEvent_t begin, end;
    cuda::check(cudaEventCreate(&begin), "bench");
    cuda::check(cudaEventCreate(&end), "bench");
    for (int i = 0; i < 3; ++i) work();
    for (int i = 0; i < 15; ++i) {
        cudaEventRecord(begin, stream);
        work();
        cudaEventRecord(end, stream);
        cuda::check(cudaEventSynchronize(end), "bench");
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        times.push_back(ms * 1e3);
    }
    cudaEventDestroy(begin), cudaEventDestroy(end);
    std::sort(times.begin(), times.end());
    return {times[1], times[7], times[13]};
}

template <class Pattern, index HeadDim, class Score = longspan::score<>>
void run(const char* pattern, const std::vector<index>& lengths, index heads, index key_heads, double live_pairs) {
    using op = cuda::attention<Pattern, HeadDim, Score>;
    index tokens = 0;
    std::vector<longspan::piece> pieces;
    for (const index n : lengths) pieces.push_back({static_cast<index>(pieces.size()), 0, tokens}), tokens += n;
    const index count = static_cast<index>(pieces.size()), width = heads * HeadDim, key_width = key_heads * HeadDim;
    array<bf16> q(tokens * width), k(tokens * key_width), v(tokens * key_width), d_out(tokens * width), out(tokens * width);
    array<bf16> dq(tokens * width), dk(tokens * key_width), dv(tokens * key_width);
    array<float> lse(tokens * heads);
    array<std::byte> workspace(op::backward_workspace(tokens, heads, key_heads)), segments(cuda::attention_segment_memory(tokens, count));
    array<longspan::piece> table(count);
    cudaStream_t stream = nullptr;
    cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "bench");
    cuda::check(cudaMemcpy(table.data, pieces.data(), pieces.size() * sizeof(longspan::piece), cudaMemcpyHostToDevice), "bench");
    const auto fill = [&](array<bf16>& to, index n, std::uint64_t seed) { randomise<<<static_cast<unsigned>((n + 255) / 256), 256>>>(to.data, n, seed); };
    fill(q, tokens * width, 1), fill(k, tokens * key_width, 2), fill(v, tokens * key_width, 3), fill(d_out, tokens * width, 4);
    cuda::check(cudaDeviceSynchronize(), "bench");
    auto* const list = reinterpret_cast<longspan::attention_segment*>(segments.data);
    cuda::self_attention_segments(stream, table.data, count, tokens, list);
    const std::span<const longspan::attention_segment> span(list, pieces.size());
    cuda::score_arguments values{};
    if (Score::dropout) values.dropout = longspan::dropout_rate(0.1);
    const auto view = [&](array<bf16>& a, index w) { return matrix_view<bf16>(a.data, tokens, w); };
    const matrix_view<float> statistics(lse.data, tokens, heads);
    const spread forward = microseconds(stream, [&] {
        op::forward(stream, view(q, width), view(k, key_width), view(v, key_width), span, {}, values, view(out, width), statistics, workspace.data);
    });
    const spread backward = microseconds(stream, [&] {
        op::backward(stream, view(q, width), view(k, key_width), view(v, key_width), span, {}, values, view(d_out, width), view(out, width), statistics,
                     {}, view(dq, width), view(dk, key_width), view(dv, key_width), cuda::accumulate::no, nullptr, workspace.data);
    });
    const double flops = 4.0 * static_cast<double>(HeadDim * heads) * live_pairs;
    const auto print = [&](const char* direction, const spread& time, double work) {
        std::printf("{\"name\": \"attention %s\", \"pattern\": \"%s\", \"head_dim\": %lld, \"heads\": %lld, \"key_heads\": %lld, \"documents\": %lld, "
                    "\"tokens\": %lld, \"dropout\": %s, \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f}\n",
                    direction, pattern, static_cast<long long>(HeadDim), static_cast<long long>(heads), static_cast<long long>(key_heads),
                    static_cast<long long>(count), static_cast<long long>(tokens), Score::dropout ? "true" : "false", time.p10, time.median, time.p90,
                    work / time.median * 1e-6);
    };
    print("forward", forward, flops), print("backward", backward, 2.5 * flops);
    std::fflush(stdout);
    cudaStreamDestroy(stream);
}

double causal_pairs(const std::vector<index>& lengths) {
    double pairs = 0;
    for (const index n : lengths) pairs += 0.5 * static_cast<double>(n) * static_cast<double>(n + 1);
    return pairs;
}
double full_pairs(const std::vector<index>& lengths) {
    double pairs = 0;
    for (const index n : lengths) pairs += static_cast<double>(n) * static_cast<double>(n);
    return pairs;
}
double window_pairs(index n, index window) {
    return static_cast<double>(window) * static_cast<double>(n) - 0.5 * static_cast<double>(window) * static_cast<double>(window - 1);
}

}  // namespace

int main(int argc, char** argv) {
    const std::string only = argc > 1 ? argv[1] : "all";
    const auto wanted = [&](const char* name) { return only == "all" || only == name; };
    const auto copies = [](longspan::index n, longspan::index length) { return std::vector<longspan::index>(static_cast<std::size_t>(n), length); };
    using causal = longspan::causal_pattern;
    using full = longspan::full_pattern;
    using local = std::remove_cvref_t<decltype(longspan::causal & longspan::window<1024>)>;
    if (wanted("128")) {
        for (const auto& lengths : {copies(2, 8192), copies(1, 32768), copies(8, 2048)}) run<causal, 128>("causal", lengths, 16, 16, causal_pairs(lengths));
    }
    if (wanted("64")) {
        for (const auto& lengths : {copies(1, 16384), copies(4, 4096)}) run<causal, 64>("causal", lengths, 32, 32, causal_pairs(lengths));
    }
#ifndef LONGSPAN_BENCH_FEW
    if (wanted("full")) {
        for (const auto& lengths : {copies(1, 32768), copies(8, 2048)}) run<full, 128>("full", lengths, 16, 16, full_pairs(lengths));
        run<full, 64>("full", copies(1, 16384), 32, 32, full_pairs(copies(1, 16384)));
    }
    if (wanted("grouped")) run<causal, 128>("causal", copies(1, 16384), 32, 8, causal_pairs(copies(1, 16384)));
    if (wanted("packed")) {
        const std::vector<longspan::index> lengths{4423, 6544, 2434, 7783, 2359, 4252, 8155, 858, 3588, 4297, 4616, 6669, 3197, 6361};
        run<causal, 128>("causal", lengths, 16, 16, causal_pairs(lengths));
    }
    if (wanted("window")) {
        run<local, 128>("causal & window<1024>", copies(1, 65536), 16, 16, window_pairs(65536, 1024));
        run<local, 64>("causal & window<1024>", copies(1, 131072), 16, 16, window_pairs(131072, 1024));
    }
    if (wanted("dropout")) {
        run<causal, 128, longspan::score<false, false, false, true>>("causal", copies(2, 8192), 16, 16, causal_pairs(copies(2, 8192)));
    }
#endif
}
