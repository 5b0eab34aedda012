// SPDX-License-Identifier: Apache-2.0
//
// What this device does in a second, as a forecast takes it (memory/device_rates.hpp): a line of JSON for each thing measured, one of all
// rates, and the same as the initializer that a config or memory/device_rates.hpp may hold. Some 20 seconds. Two cases decide two constants:
//
//     products     of two widths, each forward and both gradients      seconds = (operations + 2 · depth · edge) / products + exposed · bytes / memory
//     attention    documents of 2,048 tokens, and long ones            seconds = operations of (keys + edge) / rate
//                  where the edge is half a wave of tiles of 128 x 256 on as many multiprocessors as there are
//     memory       RMSNorm and SwiGLU, forward and back, bytes each tensor once
//     launch       a kernel that does nothing, a thousand times in a recorded graph
//     the host     256 MiB to pinned memory and back, one direction at a time
//
// Attention is Hopper's where the device is one, and that of any GPU beside it.
#include <longspan/cuda/activation.cuh>
#include <longspan/cuda/gemm.cuh>
#include <longspan/cuda/hopper/attention.cuh>
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/runtime.cuh>
#include <longspan/memory/device_rates.hpp>

#include "attention_run.cuh"

namespace {

using namespace longspan;
using namespace measure;
using longspan::index;  // not the C library's

/// x, y of first.a · x + first.b · y = first.is, and of second's.
struct equation {
    double a, b, is;
};
struct solution {
    double x, y;
};
solution solve(equation first, equation second) {
    const double determinant = first.a * second.b - second.a * first.b;
    return {(first.is * second.b - second.is * first.b) / determinant, (first.a * second.is - second.a * first.is) / determinant};
}

/// A kernel's work.
struct nothing {
    LONGSPAN_HD void operator()() const {}
};

class calibration {
public:
    device_rates rates;

    void memory() {
        constexpr index tokens = 131072, width = 2048, hidden = 2048;
        const device_values<bf16> a = normals(tokens * 2 * hidden, 1), b = normals(tokens * 2 * hidden, 2), c = normals(tokens * width, 3);
        const device_values<bf16> d(tokens * width);
        const device_values<float> weight(width, 0x3c), rstd(tokens), d_weight(width);
        const device_values<std::byte> workspace(cuda::norm_workspace(width));
        const auto view = [](const device_values<bf16>& values, index columns) { return matrix_view(values.data(), tokens, columns); };
        constexpr double tensor = 2.0 * tokens * width;  // bytes
        double moved = 0, took = 0;
        const auto add = [&](const char* name, double tensors, auto&& work) {
            const double us = clock_.time(work, 11).median;
            std::printf("{\"name\": \"%s bf16 [%lld, %lld]\", \"us\": %.1f, \"tb_per_s\": %.3f}\n", name, static_cast<long long>(tokens),
                        static_cast<long long>(width), us, tensors * tensor / us * 1e-6);
            moved += tensors * tensor, took += us;
        };
        const cudaStream_t on = clock_.stream();
        add("rms_norm", 2, [&] { cuda::rms_norm<width>(on, view(c, width), weight.data(), 1e-5, view(d, width), rstd.data()); });
        add("rms_norm_backward, added", 4, [&] {
            cuda::rms_norm_backward<width, cuda::accumulate::yes>(on, view(c, width), view(a, width), weight.data(), rstd.data(), view(d, width),
                                                                 d_weight.data(), workspace.data());
        });
        add("silu_gated", 3, [&] { cuda::silu_gated<hidden>(on, view(a, 2 * hidden), view(d, hidden)); });
        add("silu_gated_backward, and again", 6,
            [&] { cuda::silu_gated_backward<hidden>(on, view(c, hidden), view(a, 2 * hidden), view(b, 2 * hidden), view(d, hidden)); });
        rates.memory = moved / took * 1e6;
    }

    void products(int multiprocessors) {
        rates.product_edge = 0.5 * multiprocessors * 128 * 256;
        const equation wide = product<bf16>("wide", 16384, 2048, 11008), narrow = product<bf16>("narrow", 65536, 768, 768);
        const solution of = solve(wide, narrow);
        rates.products = 1 / of.x;
        rates.exposed = of.y * rates.memory;
        rates.products_tf32 = rate_of_floats<tf32_format>("tf32");
        rates.products_fp32 = rate_of_floats<float>("fp32");
    }

    template <index Head, template <class> class Op>
    [[nodiscard]] static attention_rates attention(const char* kernels, index heads) {
        using op = Op<causal_pattern>;
        constexpr index tokens = 32768;
        const auto time = [&](const char* name, index length) {
            return time_attention<causal_pattern, score<>, op>({kernels, name, Head, heads, heads, copies(tokens / length, length)}, {}, {});
        };
        const attention_times brief = time("documents of 2,048", 2048), lengthy = time("one document", tokens);
        const double width = static_cast<double>(heads * Head);
        const auto rate = [&](double flops, double attention_times::* direction) {
            const auto of = [&](const attention_times& t) { return equation{flops * width * t.pairs, flops * width * tokens, t.*direction * 1e-6}; };
            const solution found = solve(of(brief), of(lengthy));
            return std::pair(1 / found.x, found.y / found.x);
        };
        const auto [forward, forward_edge] = rate(4, &attention_times::forward);
        const auto [backward, backward_edge] = rate(10, &attention_times::backward);
        return {.forward = forward, .backward = backward, .forward_edge = forward_edge, .backward_edge = backward_edge};
    }

    void host() {
        constexpr std::size_t size = std::size_t{256} << 20;
        void* pinned = nullptr;
        cuda::check(cudaMallocHost(&pinned, size), "bench");
        const device_values<char> there(static_cast<index>(size));
        const auto rate = [&](auto&& copy) { return static_cast<double>(size) / clock_.time(copy, 5).median * 1e6; };
        rates.to_host = rate([&] { cudaMemcpyAsync(pinned, there.data(), size, cudaMemcpyDeviceToHost, clock_.stream()); });
        rates.from_host = rate([&] { cudaMemcpyAsync(there.data(), pinned, size, cudaMemcpyHostToDevice, clock_.stream()); });
        cudaFreeHost(pinned);
    }

    void launch() {
        constexpr int kernels = 1000;
        cudaGraph_t graph = nullptr;
        cudaGraphExec_t recorded = nullptr;
        cuda::check(cudaStreamBeginCapture(clock_.stream(), cudaStreamCaptureModeThreadLocal), "bench");
        for (int i = 0; i < kernels; ++i) cuda::once(clock_.stream(), nothing{});
        cuda::check(cudaStreamEndCapture(clock_.stream(), &graph), "bench");
        cuda::check(cudaGraphInstantiate(&recorded, graph, 0), "bench");
        rates.launch = clock_.time([&] { cudaGraphLaunch(recorded, clock_.stream()); }, 11).median * 1e-6 / kernels;
        cudaGraphExecDestroy(recorded);
        cudaGraphDestroy(graph);
    }

private:
    device_clock clock_;
    cuda::cublas blas_;
    const device_values<std::byte> workspace_{cuda::gemm_workspace};

    /// Microseconds of one of many calls, as in a long step: behind a second of them the clock is what power leaves of it.
    template <class Work>
    [[nodiscard]] double sustained(Work&& work) const {
        const double once = clock_.time(work, 3).median;
        for (double busy = 0; busy < 1e6; busy += once) work();
        return clock_.time(work, 11).median;
    }
    /// Forward and both gradients: seconds by operations and by bytes.
    template <class T>
    [[nodiscard]] equation product(const char* name, index t, index in, index out) {
        const device_values<T> x = normals(t * in, 1), y = normals(t * out, 2), w = normals(out * in, 3);
        const device_values<float> dw(out * in);
        const matrix_view<T> xs(x.data(), t, in), ys(y.data(), t, out), ws(w.data(), out, in);
        const matrix_view<float> dws(dw.data(), out, in);
        const double forward = sustained([&] { cuda::linear(clock_.stream(), blas_, xs, ws, nullptr, ys, workspace_.data()); });
        const double input = sustained([&] { cuda::linear_input_gradient(clock_.stream(), blas_, ys, ws, xs, workspace_.data()); });
        const double weight = sustained([&] {
            cuda::linear_weight_gradient(clock_.stream(), blas_, ys, xs, dws, workspace_.data(), cuda::accumulate::yes);
        });
        const double operations = 2.0 * static_cast<double>(t) * static_cast<double>(in) * static_cast<double>(out);
        std::printf("{\"name\": \"%s product [%lld, %lld] to %lld\", \"us\": [%.1f, %.1f, %.1f], \"tflops\": %.1f}\n", name, static_cast<long long>(t),
                    static_cast<long long>(in), static_cast<long long>(out), forward, input, weight, 3 * operations / (forward + input + weight) * 1e-6);
        // Operands and results of all three, weights read twice, their gradient read and written.
        const double bytes = 3.0 * sizeof(T) * static_cast<double>(t * (in + out)) + (2.0 * sizeof(T) + 8) * static_cast<double>(in * out);
        return {3 * operations + 2 * rates.product_edge * static_cast<double>(in + out), bytes, (forward + input + weight) * 1e-6};
    }
    template <class Operand>
    [[nodiscard]] double rate_of_floats(const char* name) {
        constexpr index n = 4096;
        // Two random bf16 make a random float: zeros would take less power than numbers do.
        const device_values<bf16> x = normals(2 * n * n, 1), w = normals(2 * n * n, 2);
        const device_values<float> y(n * n);
        const matrix_view<float> xs(reinterpret_cast<float*>(x.data()), n, n), ws(reinterpret_cast<float*>(w.data()), n, n), ys(y.data(), n, n);
        const double us = sustained([&] { cuda::linear<Operand>(clock_.stream(), blas_, xs, ws, nullptr, ys, workspace_.data()); });
        const double rate = 2.0 * n * n * n / us * 1e6;
        std::printf("{\"name\": \"%s product, 4096 each way\", \"us\": %.1f, \"tflops\": %.1f}\n", name, us, rate * 1e-12);
        return rate;
    }
};

template <class Pattern>
using hopper_64 = cuda::hopper::attention<Pattern, 64>;
template <class Pattern>
using hopper_128 = cuda::hopper::attention<Pattern, 128>;
template <class Pattern>
using hopper_256 = cuda::hopper::attention<Pattern, 256>;
template <class Pattern>
using portable_64 = cuda::attention<Pattern, 64>;
template <class Pattern>
using portable_128 = cuda::attention<Pattern, 128>;

void print(const char* name, const attention_rates& r) {
    std::printf("    .%s = {.forward = %.4ge12, .backward = %.4ge12, .forward_edge = %.0f, .backward_edge = %.0f},\n", name, r.forward * 1e-12,
                r.backward * 1e-12, r.forward_edge, r.backward_edge);
}
void print_json(const char* name, const attention_rates& r) {
    std::printf(", \"%s\": {\"forward\": %.4g, \"backward\": %.4g, \"forward_edge\": %.4g, \"backward_edge\": %.4g}", name, r.forward, r.backward,
                r.forward_edge, r.backward_edge);
}

}  // namespace

int main() {
    cudaDeviceProp about{};
    cuda::check(cudaGetDeviceProperties(&about, 0), "bench");
    calibration c;
    c.rates.name = about.name;
    c.memory();
    c.products(about.multiProcessorCount);
    c.host();
    c.launch();
    const attention_rates portable = calibration::attention<128, portable_128>("portable", 16);
    const attention_rates narrow = calibration::attention<64, portable_64>("portable", 16);
    c.rates.attention = portable, c.rates.narrow_attention = narrow;
    if (about.major == 9) {
        c.rates.attention = calibration::attention<128, hopper_128>("hopper", 16);
        c.rates.narrow_attention = calibration::attention<64, hopper_64>("hopper", 16);
        c.rates.wide_attention = calibration::attention<256, hopper_256>("hopper", 8);
    }
    const device_rates& r = c.rates;
    std::printf("{\"name\": \"device_rates\", \"device\": \"%s\", \"products\": %.4g, \"products_tf32\": %.4g, \"products_fp32\": %.4g, \"product_edge\": %.4g, \"exposed\": %.4g, "
                "\"memory\": %.4g, \"to_host\": %.4g, \"from_host\": %.4g, \"launch\": %.4g",
                r.name, r.products, r.products_tf32, r.products_fp32, r.product_edge, r.exposed, r.memory, r.to_host, r.from_host, r.launch);
    print_json("attention", r.attention), print_json("narrow_attention", r.narrow_attention), print_json("wide_attention", r.wide_attention);
    print_json("portable_attention", portable), print_json("portable_narrow_attention", narrow);
    std::printf("}\n\nconstexpr longspan::device_rates rates{\n    .name = \"%s\",\n    .products = %.4ge12,\n    .products_tf32 = %.4ge12,\n"
                "    .products_fp32 = %.4ge12,\n    .product_edge = %.0f,\n    .exposed = %.3f,\n",
                r.name, r.products * 1e-12, r.products_tf32 * 1e-12, r.products_fp32 * 1e-12, r.product_edge, r.exposed);
    print("attention", r.attention), print("narrow_attention", r.narrow_attention), print("wide_attention", r.wide_attention);
    std::printf("    .memory = %.4ge12,\n    .to_host = %.4ge9,\n    .from_host = %.4ge9,\n    .launch = %.3ge-6};\n// On any GPU:\n", r.memory * 1e-12,
                r.to_host * 1e-9, r.from_host * 1e-9, r.launch * 1e6);
    print("attention", portable), print("narrow_attention", narrow);
}
