// SPDX-License-Identifier: Apache-2.0
//
// Linear + cross-entropy on the device, loss and both gradients, beside its three products alone through cuBLASLt over all tokens
// at once, in the same process and by turns: a GPU at its power limit slows both. One JSON line a case; FLOPs are 6·t·c·v.
// The products alone write logits and dz of all tokens to memory (logits in float, and again in bf16), which the op never holds.
#include <algorithm>
#include <cstdio>
#include <vector>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/loss.cuh>

namespace {

using longspan::bf16;
using longspan::bytes;
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

/// A hash of i as a value of about the given deviation.
template <class T>
__global__ void randomise(T* to, index count, float deviation, unsigned seed) {
    for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += static_cast<index>(gridDim.x) * blockDim.x) {
        std::uint64_t bits = (static_cast<std::uint64_t>(i) + seed * 0x9E3779B97F4A7C15u) * 0xBF58476D1CE4E5B9u;
        bits = (bits ^ (bits >> 31)) * 0x94D049BB133111EBu;
        bits ^= bits >> 29;
        float sum = -2;  // of four uniforms in [0, 1): a bell of variance 1/3
        for (int j = 0; j < 4; ++j) sum += static_cast<float>(bits >> (16 * j) & 0xffff) / 65536.0f;
        to[i] = T(sum * 1.732f * deviation);
    }
}
__global__ void draw_targets(std::int32_t* to, index count, index vocabulary) {
    const index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x;
    if (i < count) to[i] = static_cast<std::int32_t>(i * 2654435761 % vocabulary);
}

struct spread {
    double p10, median, p90;
};
spread spread_of(std::vector<float>& times) {
    std::sort(times.begin(), times.end());
    const auto at = [&](double part) { return static_cast<double>(times[static_cast<std::size_t>(part * static_cast<double>(times.size() - 1))]); };
    return {at(0.1), at(0.5), at(0.9)};
}

template <index Vocabulary>
void measure(cudaStream_t stream, cuda::cublas& blas, index t, index c) {
    constexpr index v = Vocabulary;
    const index window = cuda::loss_window<bf16>(t, v);
    const bytes scratch_bytes = cuda::loss_workspace<bf16>(window, v);
    array<bf16> x(t * c), w(v * c), dx(t * c), dz(t * v);
    array<float> dw(v * c), z(t * v);
    array<std::int32_t> targets(t);
    array<std::byte> scratch(scratch_bytes), gemm_scratch(cuda::gemm_workspace);
    array<longspan::cross_entropy_sums> sums(1);
    randomise<<<1024, 256>>>(x.data, t * c, 1.0f, 1);
    randomise<<<1024, 256>>>(w.data, v * c, 0.02f, 2);
    randomise<<<1024, 256>>>(dz.data, t * v, 1e-4f, 3);
    draw_targets<<<static_cast<unsigned>(longspan::ceil_div(t, 256)), 256>>>(targets.data, t, v);
    cudaMemset(dw.data, 0, static_cast<std::size_t>(v * c) * sizeof(float));
    cudaMemset(sums.data, 0, sizeof(longspan::cross_entropy_sums));
    cuda::check(cudaDeviceSynchronize(), "bench");

    const matrix_view<bf16> xs{x.data, t, c}, ws{w.data, v, c}, dxs{dx.data, t, c}, dzs{dz.data, t, v};
    const matrix_view<float> dws{dw.data, v, c};
    const auto whole = [&] {
        cuda::linear_cross_entropy_gradients<v>(stream, blas, xs, ws, targets.data, {}, window, dxs, dws, sums.data, scratch.data);
    };
    const auto gradients = [&] {
        cuda::linear_input_gradient(stream, blas, dzs, ws, dxs, gemm_scratch.data);
        cuda::linear_weight_gradient(stream, blas, dzs, xs, dws, gemm_scratch.data, cuda::accumulate::yes);
    };
    const auto products = [&] {
        cuda::linear(stream, blas, xs, ws, nullptr, matrix_view<float>{z.data, t, v}, gemm_scratch.data);
        gradients();
    };
    const auto products_in_bf16 = [&] {
        cuda::linear(stream, blas, xs, ws, nullptr, matrix_view<bf16>{reinterpret_cast<bf16*>(z.data), t, v}, gemm_scratch.data);
        gradients();
    };
    const auto loss_alone = [&] {
        cuda::linear_cross_entropy<v>(stream, blas, xs, ws, targets.data, {}, window, sums.data, scratch.data);
    };
    cudaEvent_t begin, end;
    cuda::check(cudaEventCreate(&begin), "bench");
    cuda::check(cudaEventCreate(&end), "bench");
    std::vector<float> times[4];
    const auto time = [&](int which, auto& work) {
        cudaEventRecord(begin, stream);
        work();
        cudaEventRecord(end, stream);
        cuda::check(cudaEventSynchronize(end), "bench");
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        times[which].push_back(ms);
    };
    const int rounds = t > 16384 ? 5 : 9;
    for (int round = -2; round < rounds; ++round) {  // two to warm up
        if (round == 0)
            for (auto& list : times) list.clear();
        time(0, whole), time(1, products), time(2, products_in_bf16), time(3, loss_alone);
    }
    cudaEventDestroy(begin), cudaEventDestroy(end);
    spread s[4];
    for (int i = 0; i < 4; ++i) s[i] = spread_of(times[i]);
    const double flops = 6.0 * static_cast<double>(t) * static_cast<double>(c) * static_cast<double>(v);
    std::printf("{\"name\": \"linear cross-entropy\", \"tokens\": %lld, \"width\": %lld, \"vocabulary\": %lld, \"window\": %lld, \"workspace_mib\": %.1f, "
                "\"ms\": %.2f, \"p10\": %.2f, \"p90\": %.2f, \"tflops\": %.0f, \"products_ms\": %.2f, \"products_bf16_logits_ms\": %.2f, "
                "\"of_products\": %.3f, \"of_products_bf16_logits\": %.3f, \"loss_alone_ms\": %.2f}\n",
                static_cast<long long>(t), static_cast<long long>(c), static_cast<long long>(v), static_cast<long long>(window),
                static_cast<double>(scratch_bytes) / 1048576.0, s[0].median, s[0].p10, s[0].p90, flops / s[0].median / 1e9, s[1].median, s[2].median,
                s[1].median / s[0].median, s[2].median / s[0].median, s[3].median);
    std::fflush(stdout);
}

}  // namespace

int main() {
    cudaStream_t stream;
    cuda::check(cudaStreamCreateWithFlags(&stream, cudaStreamNonBlocking), "bench");
    cuda::cublas blas;
    for (const longspan::index t : {8192, 16384, 32768}) measure<131072>(stream, blas, t, 4096);
    measure<50304>(stream, blas, 65536, 768);
    measure<32000>(stream, blas, 16384, 2048);
}
