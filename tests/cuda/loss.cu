// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <string>
#include <vector>

#include <longspan/cuda/loss.cuh>

#include "support.cuh"

namespace longspan {

using cuda::linear_cross_entropy;
using cuda::linear_cross_entropy_gradients;
using cuda_test::device_array;
using cuda_test::doubles;
using cuda_test::random_values;
using cuda_test::relative_error;

namespace {

/// One loss: its inputs on both sides and its results.
template <index Vocabulary, class T, class Operand = void>
struct problem {
    index t, c, window;
    double smoothing;
    std::vector<T> x_host, w_host;
    std::vector<std::int32_t> targets_host;
    std::vector<float> weights_host, before;  // before: what dw holds on entry
    static constexpr float scale_host = 8;

    cuda::cublas blas;
    cuda_test::own_stream stream;
    device_array<T> x, w, dx;
    device_array<float> dw, weights, scale;
    device_array<std::int32_t> targets;
    device_array<double> token_losses;
    device_array<index> first_bad;
    device_array<cross_entropy_sums> sums;
    device_array<std::byte> scratch;

    /// `ignored`: every that many-th token has no target.
    problem(index tokens, index width, index window_, double smoothing_, index ignored = 5, double size = 1)
        : t(tokens), c(width), window(window_), smoothing(smoothing_),
          x_host(random_values<T>(static_cast<std::size_t>(t * c), 1)),
          w_host(random_values<T>(static_cast<std::size_t>(Vocabulary * c), 2, 2 * size / std::sqrt(static_cast<double>(c)))),
          weights_host(random_values<float>(static_cast<std::size_t>(t), 3)),
          before(random_values<float>(static_cast<std::size_t>(Vocabulary * c), 4)), x(x_host), w(w_host), dx(x_host.size()), dw(before),
          weights(static_cast<std::size_t>(t)), scale(std::vector<float>{scale_host}), targets(static_cast<std::size_t>(t)),
          token_losses(static_cast<std::size_t>(t)), first_bad(std::vector<index>{cuda::no_bad_target}), sums(1),
          scratch(static_cast<std::size_t>(cuda::loss_workspace<T>(window_, Vocabulary))) {
        for (float& weight : weights_host) weight = std::abs(weight);
        for (index i = 0; i < t; ++i)
            targets_host.push_back(i % ignored == ignored - 1 ? -1 : static_cast<std::int32_t>((i * 7919 + Vocabulary - 1) % Vocabulary));
        weights.put(weights_host);
        targets.put(targets_host);
        sums.zero();
    }
    [[nodiscard]] cuda::cross_entropy_options options() {
        return {.smoothing = smoothing, .scale = scale.data(), .token_weights = weights.data(), .token_losses = token_losses.data(), .first_bad = first_bad.data()};
    }
    void gradients() {
        dw.put(before);
        dx.poison();
        sums.zero();
        linear_cross_entropy_gradients<Vocabulary, Operand>(stream, blas, x.view(t, c), w.view(Vocabulary, c), targets.data(), options(), window,
                                                            dx.view(t, c), dw.view(Vocabulary, c), sums.data(), scratch.data());
    }
    void only() {
        sums.zero();
        linear_cross_entropy<Vocabulary, Operand>(stream, blas, x.view(t, c), w.view(Vocabulary, c), targets.data(), options(), window, sums.data(),
                                                  scratch.data());
    }
};

using byte_problem = problem<256, bf16, void>;  // by name: nvcc 13.0 writes a type that it meets twice without its defaults
using large_problem = problem<131072, bf16, void>;

double value(auto stored) { return static_cast<double>(to_compute(stored)); }

/// The definition in double; dz rounded to Rounding where that is not double, as the tensor cores must read it.
template <class Rounding, index Vocabulary, class T, class Operand>
struct reference {
    cross_entropy_sums sums{};
    std::vector<double> token_losses, dx, dw;

    explicit reference(const problem<Vocabulary, T, Operand>& p)
        : token_losses(static_cast<std::size_t>(p.t)), dx(p.x_host.size()), dw(p.before.begin(), p.before.end()) {
        const auto at = [&](index row, index column) { return static_cast<std::size_t>(row * p.c + column); };
        for (index r = 0; r < p.t; ++r) {
            const std::int32_t y = p.targets_host[static_cast<std::size_t>(r)];
            if (y < 0 || y >= Vocabulary) continue;
            std::vector<double> z(Vocabulary);
            double greatest = -INFINITY, powers = 0, total = 0;
            for (index i = 0; i < Vocabulary; ++i) {
                double& dot = z[static_cast<std::size_t>(i)];
                for (index k = 0; k < p.c; ++k) dot += value(p.x_host[at(r, k)]) * value(p.w_host[at(i, k)]);
                greatest = std::max(greatest, dot);
                total += dot;
            }
            for (const double dot : z) powers += std::exp(dot - greatest);
            const double lse = greatest + std::log(powers), a = static_cast<double>(p.weights_host[static_cast<std::size_t>(r)]);
            const double loss = lse - (1 - p.smoothing) * z[static_cast<std::size_t>(y)] - p.smoothing * total / static_cast<double>(Vocabulary);
            token_losses[static_cast<std::size_t>(r)] = loss;
            sums.loss += a * loss, sums.weight += a, sums.targets += 1;
            for (index i = 0; i < Vocabulary; ++i) {
                double dz = a * static_cast<double>(p.scale_host) *
                            (std::exp(z[static_cast<std::size_t>(i)] - lse) - (i == y ? 1 - p.smoothing : 0) - p.smoothing / static_cast<double>(Vocabulary));
                if constexpr (!std::is_same_v<Rounding, double>) dz = static_cast<double>(round_to<Rounding>(static_cast<float>(dz)));
                for (index k = 0; k < p.c; ++k) {
                    dx[at(r, k)] += dz * value(p.w_host[at(i, k)]);
                    dw[at(i, k)] += dz * value(p.x_host[at(r, k)]);
                }
            }
        }
        if constexpr (!std::is_same_v<Rounding, double>)
            for (double& g : dx) g = value(from_compute<T>(static_cast<float>(g)));
    }
};

/// Losses, sums and both gradients against double, under the accuracy rule; twice, with the same bits.
template <index Vocabulary, class T, class Operand = void>
void check_loss(index t, index c, index window, double smoothing, double slack = 1) {
    CAPTURE(Vocabulary);
    CAPTURE(t);
    CAPTURE(window);
    CAPTURE(smoothing);
    CAPTURE(std::string(format<T>::name));
    problem<Vocabulary, T, Operand> p(t, c, window, smoothing);
    p.gradients();
    const std::vector<T> dx = p.dx.get();
    const std::vector<float> dw = p.dw.get();
    const cross_entropy_sums sums = p.sums.get()[0];
    const std::vector<double> losses = p.token_losses.get();
    CHECK(p.first_bad.get()[0] == cuda::no_bad_target);

    const reference<double, Vocabulary, T, Operand> exact(p);
    using Rounding = std::conditional_t<sizeof(T) == 2, T, std::conditional_t<std::is_void_v<Operand>, float, Operand>>;
    const reference<Rounding, Vocabulary, T, Operand> unfused(p);
    CHECK(sums.targets == exact.sums.targets);
    CHECK(sums.weight == doctest::Approx(exact.sums.weight).epsilon(1e-12));
    const double close = std::is_same_v<Operand, tf32_format> ? 2e-3 : 2e-6;  // logits of operands read at 10 bits are other logits
    CHECK(std::abs(sums.loss - exact.sums.loss) <= close * std::abs(exact.sums.loss));
    CHECK(relative_error(losses, exact.token_losses) <= close);
    std::vector<double> change(dw.size()), exact_change(dw.size()), unfused_change(dw.size());
    for (std::size_t i = 0; i < dw.size(); ++i) {
        const double was = static_cast<double>(p.before[i]);
        change[i] = static_cast<double>(dw[i]) - was, exact_change[i] = exact.dw[i] - was, unfused_change[i] = unfused.dw[i] - was;
    }
    // Below 2e-6 it is float's own rounding: of logits, of e^x, of sums, and of dw beside what it held.
    const double dx_error = relative_error(doubles(dx), exact.dx), dx_least = relative_error(unfused.dx, exact.dx);
    const double dw_error = relative_error(change, exact_change), dw_least = relative_error(unfused_change, exact_change);
    CHECK_MESSAGE(dx_error <= slack * (1.05 * dx_least + 2e-6), "dx: ", dx_error, " against ", dx_least);
    CHECK_MESSAGE(dw_error <= slack * (1.05 * dw_least + 2e-6), "dw: ", dw_error, " against ", dw_least);
    bool zeros = true;
    for (index r = 0; r < t; ++r)
        for (index k = 0; k < c; ++k) zeros = zeros && (p.targets_host[static_cast<std::size_t>(r)] >= 0 || value(dx[static_cast<std::size_t>(r * c + k)]) == 0);
    CHECK(zeros);

    p.token_losses.poison();
    p.gradients();
    CHECK(cuda_test::same_bits(p.dx.get(), dx));
    CHECK(cuda_test::same_bits(p.dw.get(), dw));
    CHECK(cuda_test::same_bits(p.token_losses.get(), losses));
    p.token_losses.poison();
    p.only();
    const cross_entropy_sums without = p.sums.get()[0];
    if (sizeof(T) == 4 || t <= window) {  // where both make their logits in the same parts
        CHECK(without.loss == doctest::Approx(sums.loss).epsilon(1e-12));
    }
    CHECK(without.targets == sums.targets);
}

}  // namespace

TEST_CASE("loss and both gradients against double: every way a row is cut, odd vocabularies, windows and parts") {
    check_loss<2, bf16>(3, 8, 3, 0.1);
    check_loss<33, bf16>(1, 16, 1, 0);
    check_loss<127, bf16>(37, 16, 64, 0.1);        // less than a warp's worth
    check_loss<256, bf16>(300, 32, 128, 0);        // windows of 128, 128 and 44
    check_loss<1030, fp16>(65, 64, 40, 0.2);       // a tail of two
    check_loss<4099, bf16>(129, 64, 256, 0.05);    // a tail of three
    check_loss<16385, bf16>(70, 64, 33, 0);        // two CTAs to a row, one word in the second
    check_loss<50257, bf16>(24, 64, 24, 0.1);      // four CTAs
    check_loss<131072, bf16>(9, 64, 8, 0);         // eight, no thread beyond the row
    check_loss<151936, fp16>(8, 64, 8, 0.1);       // eight of sixteen fours
}

TEST_CASE("loss: a vocabulary that fits no cluster is read twice") { check_loss<262145, bf16>(6, 32, 8, 0.1); }

TEST_CASE("loss in float and tf32: dz lies on its logits") {
    check_loss<127, float>(37, 16, 64, 0.1);
    check_loss<4099, float>(65, 64, 40, 0);
    check_loss<50257, float>(17, 64, 9, 0.1);
    check_loss<4099, float, tf32_format>(65, 64, 40, 0.1, 2.2);  // the tensor core drops low bits where the reference rounds
}

TEST_CASE("logits shrink into dz: a window of several parts, whose rows wait for each other, equals short windows") {
    constexpr index c = 16;
    large_problem whole(600, c, 600, 0.1), pieces(600, c, 50, 0.1);
    static_assert(cuda::detail::loss_part<bf16>(600, 131072, 0, 600) == 384 && cuda::detail::loss_part<bf16>(600, 131072, 384, 600) == 192);
    for (int round = 0; round < 3; ++round) {
        whole.gradients();
        pieces.gradients();
        // The same logits from other shapes of product: other sums, the same values to a few bits.
        CHECK(relative_error(doubles(whole.dx.get()), doubles(pieces.dx.get())) <= 1e-3);
        CHECK(relative_error(doubles(whole.dw.get()), doubles(pieces.dw.get())) <= 1e-4);
        CHECK(relative_error(whole.token_losses.get(), pieces.token_losses.get()) <= 1e-6);
    }
}

TEST_CASE("targets outside the vocabulary: ignored, and the first of them told") {
    constexpr index v = 1030;
    problem<v, bf16> p(100, 32, 48, 0);
    auto targets = p.targets_host;
    targets[91] = v, targets[67] = -2, targets[95] = -2147483647 - 1, targets[66] = -1;
    p.targets.put(targets);
    p.gradients();
    CHECK(p.first_bad.get()[0] == 67);
    for (const std::size_t r : {66u, 67u, 91u, 95u}) {
        CHECK(p.token_losses.get()[r] == 0);
        for (std::size_t k = 0; k < 32; ++k) CHECK(value(p.dx.get()[r * 32 + k]) == 0);
    }
    index counted = 0;
    for (const auto y : targets) counted += y >= 0 && y < v;
    CHECK(p.sums.get()[0].targets == counted);
}

TEST_CASE("no tokens, no targets, no options") {
    constexpr index v = 256;
    byte_problem p(20, 16, 8, 0, 1);  // every token ignored
    p.gradients();
    CHECK(p.sums.get()[0].targets == 0);
    CHECK(p.sums.get()[0].loss == 0);
    CHECK(cuda_test::same_bits(p.dw.get(), p.before));
    for (const bf16 g : p.dx.get()) CHECK(value(g) == 0);
    byte_problem plain(20, 16, 8, 0);
    linear_cross_entropy<v>(plain.stream, plain.blas, plain.x.view(20, 16), plain.w.view(v, 16), plain.targets.data(), {}, 8, plain.sums.data(),
                            plain.scratch.data());
    CHECK(plain.sums.get()[0].weight == 16);
    linear_cross_entropy<v>(plain.stream, plain.blas, matrix_view<bf16>(nullptr, 0, 16), plain.w.view(v, 16), nullptr, {}, 8, nullptr, nullptr);
}

TEST_CASE("a vocabulary of one word: nothing to learn") {
    problem<1, bf16> p(3, 8, 3, 0.1);
    p.gradients();
    for (const double loss : p.token_losses.get()) CHECK(std::abs(loss) <= 1e-12);
    for (const bf16 g : p.dx.get()) CHECK(std::abs(value(g)) <= 1e-5);
}

TEST_CASE("logits of any size give finite losses and gradients") {
    problem<4099, float> p(12, 16, 8, 0, 5, 3000);
    p.gradients();
    const reference<double, 4099, float, void> exact(p);
    CHECK(relative_error(p.token_losses.get(), exact.token_losses) <= 1e-5);
    CHECK(relative_error(doubles(p.dx.get()), exact.dx) <= 1e-3);  // e^x of differences known to 1e-3
}

TEST_CASE("captured once and replayed: the targets, weights and scale of that moment") {
    constexpr index v = 4099;
    problem<v, bf16> p(70, 32, 40, 0.1);
    p.gradients();
    cudaStream_t stream = static_cast<cuda::stream_ref>(p.stream);
    p.stream.wait();
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t runnable = nullptr;
    cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    linear_cross_entropy_gradients<v>(p.stream, p.blas, p.x.view(p.t, p.c), p.w.view(v, p.c), p.targets.data(), p.options(), p.window,
                                      p.dx.view(p.t, p.c), p.dw.view(v, p.c), p.sums.data(), p.scratch.data());
    cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
    cuda::check(cudaGraphInstantiate(&runnable, graph, 0), "capture");
    for (auto& y : p.targets_host) y = y < 0 ? 3 : (y + 1) % v;
    p.targets.put(p.targets_host);
    p.gradients();
    const std::vector<float> eager = p.dw.get();
    p.dw.put(p.before);
    p.sums.zero();
    cuda::check(cudaGraphLaunch(runnable, stream), "replay");
    p.stream.wait();
    CHECK(cuda_test::same_bits(p.dw.get(), eager));
    CHECK(p.sums.get()[0].targets == 70);
    cudaGraphExecDestroy(runnable);
    cudaGraphDestroy(graph);
}

TEST_CASE("what does not fit is refused in a sentence") {
    byte_problem p(20, 16, 8, 0);
    const auto call = [](byte_problem& of, index vocabulary, index window, const std::int32_t* targets, std::byte* scratch, double smoothing) {
        linear_cross_entropy<256>(of.stream, of.blas, of.x.view(20, 16), of.w.view(vocabulary, 16), targets, {.smoothing = smoothing}, window,
                                  of.sums.data(), scratch);
    };
    CHECK_THROWS_AS(call(p, 255, 8, p.targets.data(), p.scratch.data(), 0), bad_argument);
    CHECK_THROWS_AS(call(p, 256, 0, p.targets.data(), p.scratch.data(), 0), bad_argument);
    CHECK_THROWS_AS(call(p, 256, 8, nullptr, p.scratch.data(), 0), bad_argument);
    CHECK_THROWS_AS(call(p, 256, 8, p.targets.data(), nullptr, 0), bad_argument);
    CHECK_THROWS_AS(call(p, 256, 8, p.targets.data(), p.scratch.data() + 16, 0), bad_argument);
    CHECK_THROWS_AS(call(p, 256, 8, p.targets.data(), p.scratch.data(), 1), bad_argument);
    call(p, 256, 8, p.targets.data(), p.scratch.data(), 0);
    CHECK(p.sums.get()[0].targets == 16);
}

TEST_CASE("scratch and weights beyond 2^31 elements") {
    // 17,000 rows of 131,072 in one window: dz passes 2^31 elements, and so do tokens x vocabulary of its logits.
    std::size_t free = 0, total = 0;
    cuda::check(cudaMemGetInfo(&free, &total), "memory");
    if (free < (std::size_t{16} << 30)) {
        MESSAGE("skipped: less than 16 GiB free");
        return;
    }
    large_problem p(17000, 16, 17000, 0, 3), last(17000, 16, 500, 0, 3);
    p.gradients();
    last.gradients();
    CHECK(relative_error(doubles(p.dx.get()), doubles(last.dx.get())) <= 1e-3);
    CHECK(relative_error(doubles(p.dw.get()), doubles(last.dw.get())) <= 1e-4);
    CHECK(relative_error(p.token_losses.get(), last.token_losses.get()) <= 1e-6);
}

}  // namespace longspan
