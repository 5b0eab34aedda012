// SPDX-License-Identifier: Apache-2.0
//
// Hopper's attention, forward and backward, beside an 8192³ product of cuBLASLt in the same run: one JSON line a case. FLOPs count
// live pairs: 4·d a pair and head forward, 10·d backward.
#include <cublasLt.h>

#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/hopper/attention.cuh>
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
void fill(array<bf16>& to, index count, std::uint64_t seed) {
    randomise<<<static_cast<unsigned>((count + 255) / 256), 256>>>(to.data, count, seed);
    cuda::check(cudaDeviceSynchronize(), "bench");
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

void product(cudaStream_t stream) {
    constexpr index n = 8192;
    array<bf16> a(n * n), b(n * n), c(n * n);
    fill(a, n * n, 1), fill(b, n * n, 2);
    array<char> room(32 << 20);
    cublasLtHandle_t handle;
    cublasLtCreate(&handle);
    cublasLtMatmulDesc_t what;
    cublasLtMatmulDescCreate(&what, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayout_t layout;
    cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, n, n, n);
    cublasLtMatmulPreference_t wish;
    cublasLtMatmulPreferenceCreate(&wish);
    std::size_t bytes = 32 << 20;
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasLtMatmulAlgoGetHeuristic(handle, what, layout, layout, layout, layout, wish, 1, &found, &count);
    const float one = 1, zero = 0;
    const spread time = microseconds(stream, [&] {
        cublasLtMatmul(handle, what, &one, a.data, layout, b.data, layout, &zero, c.data, layout, c.data, layout, &found.algo, room.data, bytes, stream);
    });
    std::printf("{\"name\": \"cublasLt 8192^3 bf16\", \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f}\n", time.p10, time.median, time.p90,
                2.0 * n * n * n / time.median * 1e-6);
    cublasLtDestroy(handle);
}

template <class Pattern, index HeadDim, class Score = longspan::score<>>
void run(const char* pattern, const std::vector<index>& lengths, index heads, index key_heads, double live_pairs) {
    using op = cuda::hopper::attention<Pattern, HeadDim, Score>;
    index tokens = 0;
    std::vector<longspan::piece> pieces;
    for (const index n : lengths) pieces.push_back({static_cast<index>(pieces.size()), 0, tokens}), tokens += n;
    const index count = static_cast<index>(pieces.size()), width = heads * HeadDim, key_width = key_heads * HeadDim;
    array<bf16> q(tokens * width), k(tokens * key_width), v(tokens * key_width), d_out(tokens * width), out(tokens * width);
    array<bf16> dq(tokens * width), dk(tokens * key_width), dv(tokens * key_width);
    array<std::byte> workspace(op::backward_workspace(tokens, heads, key_heads));
    array<float> lse(tokens * heads);
    array<std::byte> segments(cuda::attention_segment_memory(tokens, count));
    array<longspan::piece> table(count);
    cudaStream_t stream = nullptr;
    cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "bench");
    cuda::check(cudaMemcpy(table.data, pieces.data(), pieces.size() * sizeof(longspan::piece), cudaMemcpyHostToDevice), "bench");
    fill(q, tokens * width, 1), fill(k, tokens * key_width, 2), fill(v, tokens * key_width, 3), fill(d_out, tokens * width, 4);
    auto* const list = reinterpret_cast<longspan::attention_segment*>(segments.data);
    cuda::self_attention_segments(stream, table.data, count, tokens, list);
    const std::span<const longspan::attention_segment> span(list, pieces.size());
    cuda::score_arguments values{};
    if (Score::dropout) values.dropout = longspan::dropout_rate(0.1);
    const auto view = [&](array<bf16>& a, index w) { return matrix_view<bf16>(a.data, tokens, w); };
    const cuda::statistic_view<float> statistics(lse.data, tokens, heads, 1, tokens);
    const auto print = [&](const char* direction, const spread& time, double work) {
        std::printf("{\"name\": \"hopper attention %s\", \"pattern\": \"%s\", \"head_dim\": %lld, \"heads\": %lld, \"key_heads\": %lld, \"documents\": %lld, "
                    "\"tokens\": %lld, \"dropout\": %s, \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f}\n",
                    direction, pattern, static_cast<long long>(HeadDim), static_cast<long long>(heads), static_cast<long long>(key_heads),
                    static_cast<long long>(count), static_cast<long long>(tokens), Score::dropout ? "true" : "false", time.p10, time.median, time.p90,
                    work / time.median * 1e-6);
        std::fflush(stdout);
    };
    const double flops = 4.0 * static_cast<double>(HeadDim * heads) * live_pairs;
    print("forward", microseconds(stream, [&] {
              op::forward(stream, view(q, width), view(k, key_width), view(v, key_width), span, {}, values, view(out, width), statistics,
                          workspace.data);
          }), flops);
    if constexpr (HeadDim < 256) {
        print("backward", microseconds(stream, [&] {
                  op::backward(stream, view(q, width), view(k, key_width), view(v, key_width), span, {}, values, view(d_out, width), view(out, width),
                               statistics, {}, view(dq, width), view(dk, key_width), view(dv, key_width), cuda::accumulate::no, nullptr, workspace.data);
              }), 2.5 * flops);
    }
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

using causal = longspan::causal_pattern;
using local = longspan::both<causal, longspan::window_pattern<1024>>;

}  // namespace

int main(int argc, char** argv) {
    const std::string only = argc > 1 ? argv[1] : "all";
    const auto wanted = [&](const char* name) { return only == "all" || only == name; };
    const auto copies = [](longspan::index n, longspan::index length) { return std::vector<longspan::index>(static_cast<std::size_t>(n), length); };
    [[maybe_unused]] const std::vector<longspan::index> packed{4423, 6544, 2434, 7783, 2359, 4252, 8155, 858, 3588, 4297, 4616, 6669, 3197, 6361};
    product(nullptr);
    if (wanted("128")) {
        for (const auto& lengths : {copies(1, 32768), copies(8, 2048)}) run<causal, 128>("causal", lengths, 16, 16, causal_pairs(lengths));
        run<causal, 128>("causal", packed, 16, 16, causal_pairs(packed));
    }
    if (wanted("grouped")) run<causal, 128>("causal", copies(1, 16384), 32, 8, causal_pairs(copies(1, 16384)));
#ifndef LONGSPAN_BENCH_FEW
    if (wanted("full")) {
        for (const auto& lengths : {copies(1, 32768), copies(8, 2048)}) run<longspan::full_pattern, 128>("full", lengths, 16, 16, full_pairs(lengths));
    }
    if (wanted("64")) {
        run<causal, 64>("causal", copies(1, 16384), 32, 32, causal_pairs(copies(1, 16384)));
        for (const auto& lengths : {copies(16, 4096), copies(64, 1024)}) run<causal, 64>("causal", lengths, 12, 12, causal_pairs(lengths));
    }
    if (wanted("256")) run<causal, 256>("causal", copies(1, 16384), 8, 8, causal_pairs(copies(1, 16384)));
    if (wanted("window")) {
        run<local, 128>("causal & window<1024>", copies(1, 65536), 16, 16, window_pairs(65536, 1024));
        run<local, 64>("causal & window<1024>", copies(1, 131072), 12, 12, window_pairs(131072, 1024));
    }
#endif
    product(nullptr);
}
