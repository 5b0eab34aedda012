// SPDX-License-Identifier: Apache-2.0
//
// Dense products on the device at the sizes of the models that bench/cuda/models.hpp names: one JSON line a product, with the
// fused epilogues beside the plain ones, and the bias' gradient beside a device copy of the same process.
#include <algorithm>
#include <cstdio>
#include <string>
#include <vector>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/gemm.cuh>

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

__global__ void randomise(bf16* to, index count) {
    for (index i = static_cast<index>(blockIdx.x) * blockDim.x + threadIdx.x; i < count; i += static_cast<index>(gridDim.x) * blockDim.x) {
        std::uint64_t bits = static_cast<std::uint64_t>(i) * 0xBF58476D1CE4E5B9u;
        bits = (bits ^ (bits >> 31)) * 0x94D049BB133111EBu;
        bits ^= bits >> 29;
        float sum = -2;
        for (int j = 0; j < 4; ++j) sum += static_cast<float>(bits >> (16 * j) & 0xffff) / 65536.0f;
        to[i] = bf16(sum * 1.732f);
    }
}

struct timer {
    cudaStream_t stream;
    cudaEvent_t begin, end;

    template <class F>
    void operator()(const std::string& name, double flops, double moved, double copy_rate, F&& work) {
        std::vector<float> times;
        for (int i = -3; i < 11; ++i) {
            cudaEventRecord(begin, stream);
            work();
            cudaEventRecord(end, stream);
            cuda::check(cudaEventSynchronize(end), "bench");
            float ms = 0;
            cudaEventElapsedTime(&ms, begin, end);
            if (i >= 0) times.push_back(ms * 1000);
        }
        std::sort(times.begin(), times.end());
        std::printf("{\"name\": \"%s\", \"us\": %.1f, \"p10\": %.1f, \"p90\": %.1f", name.c_str(), times[5], times[1], times[9]);
        if (flops > 0) std::printf(", \"tflops\": %.0f", flops / times[5] / 1e6);
        if (moved > 0) std::printf(", \"gbs\": %.0f, \"of_copy\": %.3f", moved / times[5] / 1e3, moved / times[5] / 1e3 / copy_rate);
        std::printf("}\n");
    }
};

struct layer {
    const char* name;
    index t, in, out;
};

}  // namespace

int main() {
    timer time{};
    cuda::check(cudaStreamCreateWithFlags(&time.stream, cudaStreamNonBlocking), "bench");
    cudaEventCreate(&time.begin), cudaEventCreate(&time.end);
    const cuda::stream_ref stream = time.stream;
    cuda::cublas blas;
    constexpr longspan::index most = 65536ll * 4096, widest = 11008ll * 4096;
    array<bf16> a(most), b(most), c(most), d(most), w(widest);
    array<float> dw(widest);
    array<std::byte> scratch(cuda::gemm_workspace);
    for (bf16* at : {a.data, b.data, c.data, d.data}) randomise<<<1024, 256>>>(at, most);
    randomise<<<1024, 256>>>(w.data, widest);
    cudaMemset(dw.data, 0, sizeof(float) * widest);
    cuda::check(cudaDeviceSynchronize(), "bench");

    std::vector<float> copies;
    for (int i = 0; i < 12; ++i) {
        cudaEventRecord(time.begin, time.stream);
        cudaMemcpyAsync(a.data, b.data, sizeof(bf16) * most, cudaMemcpyDeviceToDevice, time.stream);
        cudaEventRecord(time.end, time.stream);
        cuda::check(cudaEventSynchronize(time.end), "bench");
        float ms = 0;
        cudaEventElapsedTime(&ms, time.begin, time.end);
        copies.push_back(ms);
    }
    std::sort(copies.begin(), copies.end());
    const double copy_rate = 2.0 * sizeof(bf16) * static_cast<double>(most) / copies[6] / 1e6;
    std::printf("{\"name\": \"device copy, 512 MiB\", \"gbs\": %.0f}\n", copy_rate);

    constexpr layer layers[] = {{"A qkv", 65536, 768, 2304},   {"A output", 65536, 768, 768},    {"A gate + up", 65536, 768, 4096},
                                {"A down", 65536, 2048, 768},  {"B qkv", 16384, 2048, 6144},     {"B gate + up", 16384, 2048, 11008},
                                {"B down", 16384, 5504, 2048}, {"GPT-2 up", 65536, 768, 3072},   {"GPT-2 down", 65536, 3072, 768}};
    // dw += and db += of GPT-2's wide products: the sum over dy in the product's epilogue, or by a kernel of its own.
    const auto parameter_gradients = [&](const layer& of, longspan::index t) {
        const matrix_view<bf16> x{a.data, t, of.in}, dy{b.data, t, of.out};
        const matrix_view<float> to{dw.data, of.out, of.in};
        float* const db = dw.data + of.out * of.in;
        const double flops = 2.0 * static_cast<double>(t) * static_cast<double>(of.in) * static_cast<double>(of.out);
        const std::string name = std::string(of.name) + ", " + std::to_string(t) + " tokens, weight and bias gradient";
        time(name + " apart", flops, 0, 0, [&] {
            cuda::linear_parameter_gradients<void, false>(stream, blas, dy, x, to, db, scratch.data, cuda::accumulate::yes);
        });
        try {
            time(name + " in one", flops, 0, 0, [&] {
                cuda::linear_parameter_gradients<void, true>(stream, blas, dy, x, to, db, scratch.data, cuda::accumulate::yes);
            });
        } catch (const cuda::device_error& refused) {
            std::printf("{\"name\": \"%s in one\", \"refused\": \"%s\"}\n", name.c_str(), refused.name.c_str());
        }
    };
    for (const layer& l : layers) {
        const matrix_view<bf16> x{a.data, l.t, l.in}, y{b.data, l.t, l.out}, weight{w.data, l.out, l.in}, residual{c.data, l.t, l.out};
        const double flops = 2.0 * static_cast<double>(l.t) * static_cast<double>(l.in) * static_cast<double>(l.out);
        const std::string name = l.name;
        time(name + ", forward", flops, 0, 0, [&] { cuda::linear(stream, blas, x, weight, nullptr, y, scratch.data); });
        time(name + ", forward with a bias", flops, 0, 0, [&] { cuda::linear(stream, blas, x, weight, w.data, y, scratch.data); });
        time(name + ", forward onto a residual", flops, 0, 0,
             [&] { cuda::linear_residual(stream, blas, x, weight, nullptr, matrix_view<const bf16>(residual), y, scratch.data); });
        time(name + ", input gradient", flops, 0, 0, [&] { cuda::linear_input_gradient(stream, blas, y, weight, x, scratch.data); });
        time(name + ", weight gradient added", flops, 0, 0, [&] {
            cuda::linear_weight_gradient(stream, blas, y, x, matrix_view<float>{dw.data, l.out, l.in}, scratch.data, cuda::accumulate::yes);
        });
        time(name + ", bias gradient", 0, 2.0 * static_cast<double>(l.t) * static_cast<double>(l.out), copy_rate,
             [&] { cuda::linear_bias_gradient(stream, y, dw.data, scratch.data, cuda::accumulate::yes); });
        for (const auto t : {longspan::index{4096}, longspan::index{16384}, l.t})
            if (name.starts_with("GPT-2")) parameter_gradients(l, t);
        if (name != "GPT-2 up") continue;
        const matrix_view<bf16> pre{d.data, l.t, l.out};
        time(name + ", forward with a bias and GELU", flops, 0, 0,
             [&] { cuda::linear_gelu_tanh(stream, blas, x, weight, w.data, pre, y, scratch.data); });
        time("GPT-2 down, input gradient through GELU", flops, 0, 0, [&] {
            cuda::linear_input_gradient_gelu_tanh(stream, blas, x, matrix_view<bf16>{w.data, l.in, l.out}, matrix_view<const bf16>(pre), y, scratch.data);
        });
    }
}
