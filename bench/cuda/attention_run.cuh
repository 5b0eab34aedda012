// SPDX-License-Identifier: Apache-2.0
//
// What the benchmarks of attention share: documents of random operands, both directions timed by the GPU's own clock, one line of JSON
// each, and the yardstick, an 8192³ product of cuBLASLt. FLOPs are useful ones: live pairs, 4·d a pair and head forward, 10·d backward;
// beside them the rate per visited tile of 128 × 128 pairs, since a pattern may cut tiles. Cases have names, and are run in the order in
// which they are named: by arguments (all of them if there are none), or line by line on standard input after `-`, so that another
// program may take turns with this one.
#pragma once

#include <cublasLt.h>

#include <functional>
#include <iostream>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include <longspan/cuda/attention.cuh>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

#include "timing.cuh"

namespace measure {

using longspan::bf16;
using lengths = std::vector<index>;

inline lengths copies(index count, index length) { return lengths(static_cast<std::size_t>(count), length); }
/// 14 documents, 65,536 tokens.
inline const lengths packed{4423, 6544, 2434, 7783, 2359, 4252, 8155, 858, 3588, 4297, 4616, 6669, 3197, 6361};

template <int = 0>
__global__ void normal_values(bf16* to, index count, std::uint64_t seed) {
    const index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i >= count) return;
    const auto drawn = longspan::philox4x32(longspan::element_counter(i), longspan::key_of({.seed = seed}));
    const float u = (static_cast<float>(drawn.word[0] >> 8) + 0.5f) * 0x1p-24f, v = longspan::uniform(drawn.word[1]);
    to[i] = bf16(sqrtf(-2 * logf(u)) * cospif(2 * v));
}
inline device_values<bf16> normals(index count, std::uint64_t seed) {
    device_values<bf16> to(count);
    normal_values<><<<static_cast<unsigned>((count + 255) / 256), 256>>>(to.data(), count, seed);
    longspan::cuda::check(cudaDeviceSynchronize(), "bench");
    return to;
}

inline void product() {
    constexpr index n = 8192, room = index{32} << 20;
    const device_values<bf16> a = normals(n * n, 1), b = normals(n * n, 2), c(n * n);
    const device_values<char> workspace(room);
    cublasLtHandle_t handle;
    cublasLtCreate(&handle);
    cublasLtMatmulDesc_t what;
    cublasLtMatmulDescCreate(&what, CUBLAS_COMPUTE_32F, CUDA_R_32F);
    cublasLtMatrixLayout_t layout;
    cublasLtMatrixLayoutCreate(&layout, CUDA_R_16BF, n, n, n);
    cublasLtMatmulPreference_t wish;
    cublasLtMatmulPreferenceCreate(&wish);
    const std::size_t bytes = room;
    cublasLtMatmulPreferenceSetAttribute(wish, CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, &bytes, sizeof(bytes));
    cublasLtMatmulHeuristicResult_t found;
    int count = 0;
    cublasLtMatmulAlgoGetHeuristic(handle, what, layout, layout, layout, layout, wish, 1, &found, &count);
    const float one = 1, zero = 0;
    const device_clock clock;
    const spread took = clock.time([&] {
        cublasLtMatmul(handle, what, &one, a.data(), layout, b.data(), layout, &zero, c.data(), layout, c.data(), layout, &found.algo, workspace.data(), bytes,
                       clock.stream());
    }, 15);
    std::printf("{\"name\": \"cublasLt 8192^3 bf16\", \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f}\n", took.p10, took.median, took.p90,
                2.0 * n * n * n / took.median * 1e-6);
    cublasLtMatmulPreferenceDestroy(wish), cublasLtMatrixLayoutDestroy(layout), cublasLtMatmulDescDestroy(what), cublasLtDestroy(handle);
}

/// Pairs that a pattern sees in documents, and those of the tiles that a walk visits.
struct pair_count {
    double live = 0, visited = 0;
};
template <class Pattern>
pair_count pairs_of(const lengths& documents, const typename Pattern::arguments& arguments) {
    constexpr index tile = 128;
    pair_count count;
    for (index d = 0; d < static_cast<index>(documents.size()); ++d) {
        const index n = documents[static_cast<std::size_t>(d)];
        for (index q = 0; q < n; q += tile) {
            const index end = q + tile < n ? q + tile : n;
            auto walk = longspan::runs_from<Pattern, true>(arguments, d, {q, end}, {0, n}, tile);
            for (longspan::tile_run run; walk.next(run);) {
                count.visited += static_cast<double>((run.last - run.first) * tile * tile);
                for (index k = run.first * tile; k < n && k < run.last * tile; k += tile) {
                    const index here = k + tile < n ? tile : n - k;
                    if (run.kind == longspan::tile_class::full) {
                        count.live += static_cast<double>((end - q) * here);
                        continue;
                    }
                    for (index row = q; row < end; ++row)
                        for (index first = 0; first < here; first += 32) {
                            const std::uint32_t bits = Pattern::key_bits(arguments, d, row, k + first) & longspan::bits_of({k, k + here}, k + first);
                            count.live += __builtin_popcount(bits);
                        }
                }
            }
        }
    }
    return count;
}

struct attention_case {
    const char *kernels, *name;
    index head_dim, heads, key_heads;
    lengths documents;
};

/// Median microseconds of both directions, and the live pairs of one head.
struct attention_times {
    double forward = 0, backward = 0, pairs = 0;
};

/// Both directions of Op; `here` and `there`: the pattern's arguments on the host and on the device.
template <class Pattern, class Score, class Op>
attention_times time_attention(const attention_case& what, const typename Pattern::arguments& here, const typename Pattern::arguments& there,
                               const char* variant = "", bool forward_too = true) {
    namespace cuda = longspan::cuda;
    index tokens = 0;
    std::vector<longspan::piece> pieces;
    for (const index n : what.documents) pieces.push_back({static_cast<index>(pieces.size()), 0, tokens}), tokens += n;
    const index count = static_cast<index>(pieces.size()), width = what.heads * what.head_dim, key_width = what.key_heads * what.head_dim;
    const device_values<bf16> q = normals(tokens * width, 1), k = normals(tokens * key_width, 2), v = normals(tokens * key_width, 3);
    const device_values<bf16> d_out = normals(tokens * width, 4), out(tokens * width), dq(tokens * width), dk(tokens * key_width), dv(tokens * key_width);
    const device_values<float> lse(tokens * what.heads);
    const device_values<std::byte> workspace(Op::backward_workspace(tokens, what.heads, what.key_heads)), segments(cuda::attention_segment_memory(tokens, count));
    const device_values<longspan::piece> table(pieces);
    const device_clock clock;
    auto* const list = reinterpret_cast<longspan::attention_segment*>(segments.data());
    cuda::self_attention_segments(clock.stream(), table.data(), count, tokens, list);
    const std::span<const longspan::attention_segment> span(list, pieces.size());
    cuda::score_arguments values{};
    if (Score::dropout) values.dropout = longspan::dropout_rate(0.1);
    const auto view = [&](const device_values<bf16>& a, index columns) { return longspan::matrix_view<bf16>(a.data(), tokens, columns); };
    const cuda::statistic_view<float> statistics(lse.data(), tokens, what.heads, 1, tokens);
    const pair_count pairs = pairs_of<Pattern>(what.documents, here);
    const auto print = [&](const char* direction, const spread& took, double flops_a_pair) {
        const double flops = flops_a_pair * static_cast<double>(width);
        std::printf("{\"name\": \"attention %s\", \"kernels\": \"%s\", \"case\": \"%s\", \"variant\": \"%s\", \"head_dim\": %lld, \"heads\": %lld, \"key_heads\": %lld, "
                    "\"documents\": %lld, \"tokens\": %lld, \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f, \"visited_tflops\": %.1f}\n",
                    direction, what.kernels, what.name, variant, static_cast<long long>(what.head_dim), static_cast<long long>(what.heads),
                    static_cast<long long>(what.key_heads), static_cast<long long>(count), static_cast<long long>(tokens), took.p10, took.median, took.p90,
                    flops * pairs.live / took.median * 1e-6, flops * pairs.visited / took.median * 1e-6);
        std::fflush(stdout);
    };
    const auto forward = [&] {
        Op::forward(clock.stream(), view(q, width), view(k, key_width), view(v, key_width), span, there, values, view(out, width), statistics, workspace.data());
    };
    attention_times took{.pairs = pairs.live};
    const auto timed = [&](const char* direction, double& median, const spread& all, double flops_a_pair) {
        print(direction, all, flops_a_pair);
        median = all.median;
    };
    if (forward_too) timed("forward", took.forward, clock.time(forward, 15), 4);
    else forward();
    timed("backward", took.backward, clock.time([&] {
              Op::backward(clock.stream(), view(q, width), view(k, key_width), view(v, key_width), span, there, values, view(d_out, width), view(out, width),
                           statistics, {}, view(dq, width), view(dk, key_width), view(dv, key_width), cuda::accumulate::no, nullptr, workspace.data());
          }, 15), 10);
    return took;
}

/// Names and what they run.
using attention_cases = std::vector<std::pair<std::string, std::function<void()>>>;

/// Returns main's exit status.
inline int run_cases(const attention_cases& cases, int argc, char** argv) {
    const auto run = [&](const std::string& name) {
        for (const auto& [known, work] : cases) {
            if (known == name) return work(), true;
        }
        std::cerr << "unknown case " << name << ", expected one of:";
        for (const auto& [known, work] : cases) std::cerr << ' ' << known;
        std::cerr << '\n';
        return false;
    };
    if (argc == 2 && std::string(argv[1]) == "-") {
        for (std::string name; std::getline(std::cin, name);) {
            (void)run(name);  // what is unknown has no figures
            std::cout << "{}" << std::endl;  // done
        }
        return 0;
    }
    if (argc == 1) {
        for (const auto& [name, work] : cases) work();
    }
    for (int i = 1; i < argc; ++i) {
        if (!run(argv[i])) return 1;
    }
    return 0;
}

}  // namespace measure
