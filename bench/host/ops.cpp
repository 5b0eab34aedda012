// SPDX-License-Identifier: Apache-2.0
// Ops alone: the products of a GPT-2 124M layer and head at 1,024 tokens, attention at 8,192, and what a step runs between them.
// Products and attention stand beside the machine's 512^3 rate, the rest beside memcpy of 48 MiB: bytes count once read, once
// written.
#include "machine.hpp"

#include <cstring>
#include <random>

#include <longspan/host/activation.hpp>
#include <longspan/host/attention.hpp>
#include <longspan/host/gemm.hpp>
#include <longspan/host/loss.hpp>
#include <longspan/host/norm.hpp>
#include <longspan/host/rotary.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

namespace ls = longspan;
namespace host = longspan::host;

namespace {

/// A matrix of its own memory, [rows, columns], of small random numbers.
struct matrix {
    ls::index rows, columns;
    std::vector<float> memory;
    matrix(ls::index r, ls::index c) : rows(r), columns(c), memory(static_cast<std::size_t>(r * c)) {
        std::minstd_rand random(static_cast<unsigned>(7 * r + c));
        std::uniform_real_distribution<float> uniform(-1, 1);
        for (float& x : memory) x = uniform(random);
    }
    [[nodiscard]] ls::matrix_view<float> view() { return {memory.data(), rows, columns}; }
    [[nodiscard]] double bytes() const { return static_cast<double>(sizeof(float) * memory.size()); }
};

enum class pass { forward, input_gradient, weight_gradient };

template <pass Pass>
void gemm(benchmark::State& state) {
    const ls::index t = state.range(0), in = state.range(1), out = state.range(2);
    matrix x(t, in), w(out, in), y(t, out);
    const auto m = measure::run(state, [&] {
        if constexpr (Pass == pass::forward) host::linear(x.view(), w.view(), nullptr, y.view());
        else if constexpr (Pass == pass::input_gradient) host::linear_input_gradient(y.view(), w.view(), x.view());
        else host::linear_weight_gradient(y.view(), x.view(), w.view());
    });
    measure::count_flops(state, m, 2.0 * static_cast<double>(t * in * out));
}

void shapes(benchmark::internal::Benchmark* b) {
    b->ArgNames({"t", "in", "out"})->Args({1024, 768, 2304})->Args({1024, 768, 768})->Args({1024, 768, 3072})->Args({1024, 3072, 768})->Args({256, 768, 50304});
}
BENCHMARK(gemm<pass::forward>)->Apply(shapes)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(gemm<pass::input_gradient>)->Apply(shapes)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(gemm<pass::weight_gradient>)->Apply(shapes)->UseManualTime()->Unit(benchmark::kMillisecond);

/// Causal attention over one document of 8,192 tokens, 8 heads of 64; Window 0: none. Useful FLOPs: two products forward and
/// five backward over the pairs that are shown.
template <int Window, bool Backward>
void attention(benchmark::State& state) {
    constexpr ls::index t = 8192, heads = 8, d = 64;
    constexpr auto pattern = [] {
        if constexpr (Window > 0) return ls::causal & ls::window<Window>;
        else return ls::causal;
    }();
    using op = host::attention<ls::pattern_of<pattern>, d>;
    matrix q(t, heads * d), k(t, heads * d), v(t, heads * d), out(t, heads * d), lse(t, heads);
    matrix d_out(t, heads * d), dq(t, heads * d), dk(t, heads * d), dv(t, heads * d);
    const host::attention_segment document[] = {{.query_count = t, .key_count = t}};
    const auto m = measure::run(state, [&] {
        op::forward(q.view(), k.view(), v.view(), document, {}, {}, out.view(), lse.view());
        if constexpr (Backward) {
            op::backward(q.view(), k.view(), v.view(), document, {}, {}, d_out.view(), out.view(), lse.view(), {}, dq.view(), dk.view(),
                         dv.view(), host::accumulate::no, nullptr, nullptr);
        }
    });
    const double shown = Window > 0 ? static_cast<double>(t) * Window - 0.5 * Window * (Window - 1) : 0.5 * t * (t + 1);
    measure::count_flops(state, m, (Backward ? 14.0 : 4.0) * d * heads * shown);
}
BENCHMARK(attention<0, false>)->Name("attention_forward/causal")->UseManualTime()->Iterations(2)->Unit(benchmark::kMillisecond);
BENCHMARK(attention<0, true>)->Name("attention_both/causal")->UseManualTime()->Iterations(3)->Unit(benchmark::kMillisecond);
BENCHMARK(attention<1024, false>)->Name("attention_forward/window_1024")->UseManualTime()->Iterations(4)->Unit(benchmark::kMillisecond);
BENCHMARK(attention<1024, true>)->Name("attention_both/window_1024")->UseManualTime()->Iterations(4)->Unit(benchmark::kMillisecond);

// Rows of the residual stream: 8,192 tokens of width 768, so that no cache holds them.
constexpr ls::index rows = 8192, width = 768;

void rms_norm(benchmark::State& state) {
    matrix x(rows, width), y(rows, width), w(1, width), r(1, rows);
    const auto m = measure::run(state, [&] { host::rms_norm(x.view(), w.memory.data(), 1e-5, y.view(), r.memory.data()); });
    measure::count_bytes(state, m, 2 * x.bytes());
}
void rms_norm_backward(benchmark::State& state) {
    matrix x(rows, width), dy(rows, width), dx(rows, width), w(1, width), r(1, rows), dw(1, width);
    const auto m = measure::run(state, [&] {
        host::rms_norm_backward(dy.view(), x.view(), w.memory.data(), r.memory.data(), dx.view(), host::accumulate::yes, dw.memory.data());
    });
    measure::count_bytes(state, m, 4 * x.bytes());
}
void layer_norm(benchmark::State& state) {
    matrix x(rows, width), y(rows, width), w(1, width), b(1, width), mean(1, rows), r(1, rows);
    const auto m = measure::run(state, [&] {
        host::layer_norm(x.view(), w.memory.data(), b.memory.data(), 1e-5, y.view(), mean.memory.data(), r.memory.data());
    });
    measure::count_bytes(state, m, 2 * x.bytes());
}
void layer_norm_backward(benchmark::State& state) {
    matrix x(rows, width), dy(rows, width), dx(rows, width), w(1, width), mean(1, rows), r(1, rows), dw(1, width), db(1, width);
    const auto m = measure::run(state, [&] {
        host::layer_norm_backward(dy.view(), x.view(), w.memory.data(), mean.memory.data(), r.memory.data(), dx.view(),
                                  host::accumulate::yes, dw.memory.data(), db.memory.data());
    });
    measure::count_bytes(state, m, 4 * x.bytes());
}
void gelu_tanh(benchmark::State& state) {
    matrix x(rows, 4 * width), y(rows, 4 * width);
    const auto m = measure::run(state, [&] { host::gelu_tanh(x.view(), y.view()); });
    measure::count_bytes(state, m, 2 * x.bytes());
}
void gelu_tanh_backward(benchmark::State& state) {
    matrix x(rows, 4 * width), dy(rows, 4 * width), dx(rows, 4 * width);
    const auto m = measure::run(state, [&] { host::gelu_tanh_backward(dy.view(), x.view(), dx.view()); });
    measure::count_bytes(state, m, 3 * x.bytes());
}
void silu_gated(benchmark::State& state) {
    matrix x(rows, 4 * width), y(rows, 2 * width);
    const auto m = measure::run(state, [&] { host::silu_gated(x.view(), y.view()); });
    measure::count_bytes(state, m, x.bytes() + y.bytes());
}
void silu_gated_backward(benchmark::State& state) {
    matrix x(rows, 4 * width), dy(rows, 2 * width), dx(rows, 4 * width);
    const auto m = measure::run(state, [&] { host::silu_gated_backward(dy.view(), x.view(), dx.view()); });
    measure::count_bytes(state, m, 2 * x.bytes() + dy.bytes());
}
void rotary(benchmark::State& state) {
    matrix x(rows, width), cosines(rows, 32), sines(rows, 32);
    const auto m = measure::run(state, [&] { host::rotary(x.view(), 64, cosines.view(), sines.view(), x.view(), host::direction::forward); });
    measure::count_bytes(state, m, 2 * x.bytes() + cosines.bytes() + sines.bytes());
}
/// The table of a batch, in elements per second: it is made once a step.
void rotary_table(benchmark::State& state) {
    matrix cosines(rows, 32), sines(rows, 32);
    const ls::piece pieces[] = {{.document = 0, .position = 4'000'000, .begin = 0}};
    const auto m = measure::run(state, [&] { host::rotary_table({pieces, rows}, 64, 10000, cosines.view(), sines.view()); });
    measure::count_bytes(state, m, cosines.bytes() + sines.bytes());
}
void copy(benchmark::State& state) {
    matrix from(rows, 2 * width), to(rows, 2 * width);
    const auto m = measure::run(state, [&] {
        std::memcpy(to.memory.data(), from.memory.data(), from.memory.size() * sizeof(float));
        benchmark::ClobberMemory();
    });
    measure::count_bytes(state, m, 2 * from.bytes());
}
BENCHMARK(copy)->Name("memcpy_one_thread")->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(rms_norm)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(rms_norm_backward)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(layer_norm)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(layer_norm_backward)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(gelu_tanh)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(gelu_tanh_backward)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(silu_gated)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(silu_gated_backward)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(rotary)->UseManualTime()->Unit(benchmark::kMillisecond);
BENCHMARK(rotary_table)->UseManualTime()->Unit(benchmark::kMillisecond);

/// Head and loss with gradients, GPT-2's vocabulary, 256 tokens: three products and a softmax.
void loss(benchmark::State& state) {
    constexpr ls::index t = 256, v = 50304;
    matrix x(t, width), w(v, width), dx(t, width), dw(v, width);
    std::vector<std::int32_t> targets(t, 17);
    std::vector<std::byte> workspace(static_cast<std::size_t>(host::cross_entropy_workspace<float>(t, v)));
    const auto m = measure::run(state, [&] {
        host::linear_cross_entropy_gradients(x.view(), w.view(), targets.data(), {}, t, dx.view(), dw.view(), workspace);
    });
    measure::count_flops(state, m, 6.0 * static_cast<double>(t * v * width));
}
BENCHMARK(loss)->UseManualTime()->Unit(benchmark::kMillisecond);

}  // namespace

LONGSPAN_BENCH_MAIN()
