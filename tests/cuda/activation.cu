// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>
#include <utility>
#include <vector>

#include <longspan/cuda/activation.cuh>

#include "support.cuh"

namespace activation_test {

namespace ls = longspan;
using ls::index;  // not POSIX's
using cuda_test::check_rounded_once, cuda_test::device_array, cuda_test::doubles, cuda_test::random_values, cuda_test::relative_error, cuda_test::same_bits;

constexpr double pi = 3.14159265358979323846;

/// f(x), f'(x) in double.
struct silu {
    static std::pair<double, double> at(double x) {
        const double s = 1 / (1 + std::exp(-x));
        return {x * s, s + x * s * (1 - s)};
    }
};
struct gelu {
    static std::pair<double, double> at(double x) {
        const double below = 0.5 * std::erfc(-x / std::sqrt(2.0));
        return {x * below, below + x * std::exp(-0.5 * x * x) / std::sqrt(2 * pi)};
    }
};
struct gelu_tanh {
    static std::pair<double, double> at(double x) {
        const double k = std::sqrt(2 / pi), t = std::tanh(k * (x + 0.044715 * x * x * x));
        return {0.5 * x * (1 + t), 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * k * (1 + 3 * 0.044715 * x * x)};
    }
};

constexpr double sums = 2e-6;  // what exponentials in float cost

/// Forward and backward of an op over [rows, Hidden] against double, from a strided pre-activation with extreme values in it.
template <class Function, index Hidden, bool Gated, class T, class Forward, class Backward>
void against_double(index rows, Forward forward, Backward backward) {
    CAPTURE(rows);
    constexpr index width = Gated ? 2 * Hidden : Hidden, apart = width + 8;
    const auto count = static_cast<std::size_t>(rows * Hidden);
    auto x = random_values<T>(static_cast<std::size_t>(rows * apart), 1, 2.5);
    for (const double extreme : {0.0, -60.0, 60.0, -95.0, 95.0, -1e-6}) {
        x[static_cast<std::size_t>(extreme < 0 ? 1 : 2) + static_cast<std::size_t>(std::abs(extreme)) % 5] = ls::from_compute<T>(static_cast<float>(extreme));
    }
    const auto dy = random_values<T>(count, 2);
    std::vector<double> y(count), dx(static_cast<std::size_t>(rows * width));
    for (index t = 0; t < rows; ++t) {
        for (index c = 0; c < Hidden; ++c) {
            const auto at = static_cast<std::size_t>(t * Hidden + c), from = static_cast<std::size_t>(t * apart + c), to = static_cast<std::size_t>(t * width + c);
            const auto [value, slope] = Function::at(static_cast<double>(ls::to_compute(x[from])));
            const double up = Gated ? static_cast<double>(ls::to_compute(x[from + static_cast<std::size_t>(Hidden)])) : 1;
            const double d = static_cast<double>(ls::to_compute(dy[at]));
            y[at] = value * up;
            dx[to] = d * up * slope;
            if constexpr (Gated) dx[to + static_cast<std::size_t>(Hidden)] = d * value;
        }
    }
    cuda_test::own_stream stream;
    device_array<T> x_d(x), dy_d(dy), y_d(count), again(count), dx_d(static_cast<std::size_t>(rows * width)), dx_alone(static_cast<std::size_t>(rows * width));
    forward(stream, x_d.constants(rows, width, apart), y_d.view(rows, Hidden));
    check_rounded_once(y_d.get(), y, sums);
    backward(stream, dy_d.constants(rows, Hidden), x_d.constants(rows, width, apart), dx_d.view(rows, width), again.view(rows, Hidden));
    check_rounded_once(dx_d.get(), dx, sums);
    CHECK(same_bits(again.get(), y_d.get()));  // what is made again is what was made
    backward(stream, dy_d.constants(rows, Hidden), x_d.constants(rows, width, apart), dx_alone.view(rows, width), ls::matrix_view<T>{});
    CHECK(same_bits(dx_alone.get(), dx_d.get()));
}

TEST_CASE_TEMPLATE("cuda activation: each of them against double, forward and backward", T, float, ls::bf16, ls::fp16) {
    for (const index rows : {1, 3, 32, 67}) {
        against_double<silu, 40, true, T>(rows, [](ls::cuda::stream_ref s, auto x, auto y) { ls::cuda::silu_gated<40>(s, x, y); },
                                          [](ls::cuda::stream_ref s, auto dy, auto x, auto dx, auto y) { ls::cuda::silu_gated_backward<40>(s, dy, x, dx, y); });
        against_double<gelu, 8, true, T>(rows, [](ls::cuda::stream_ref s, auto x, auto y) { ls::cuda::gelu_gated<8>(s, x, y); },
                                         [](ls::cuda::stream_ref s, auto dy, auto x, auto dx, auto y) { ls::cuda::gelu_gated_backward<8>(s, dy, x, dx, y); });
        against_double<gelu, 96, false, T>(rows, [](ls::cuda::stream_ref s, auto x, auto y) { ls::cuda::gelu<96>(s, x, y); },
                                           [](ls::cuda::stream_ref s, auto dy, auto x, auto dx, auto y) { ls::cuda::gelu_backward<96>(s, dy, x, dx, y); });
        against_double<gelu_tanh, 264, false, T>(rows, [](ls::cuda::stream_ref s, auto x, auto y) { ls::cuda::gelu_tanh<264>(s, x, y); },
                                                 [](ls::cuda::stream_ref s, auto dy, auto x, auto dx, auto y) { ls::cuda::gelu_tanh_backward<264>(s, dy, x, dx, y); });
    }
}

TEST_CASE("cuda activation: no rows, and what does not fit") {
    cuda_test::own_stream stream;
    device_array<ls::bf16> x(64), y(32);
    ls::cuda::silu_gated<8>(stream, x.constants(0, 16), y.view(0, 8));
    std::string said;
    try {
        ls::cuda::silu_gated<8>(stream, x.constants(4, 8), y.view(4, 8));
    } catch (const ls::bad_argument& e) {
        said = e.what();
    }
    CHECK(said.find("silu_gated: expected x of [4, 16], got [4, 8]") == 0);
    CHECK_THROWS_AS(ls::cuda::silu_gated<8>(stream, x.constants(2, 16, 17), y.view(2, 8)), ls::bad_argument);
}

TEST_CASE("cuda activation: rows that begin beyond 2^31 elements") {
    constexpr index hidden = 4096, rows = (index{1} << 31) / hidden + 1;
    std::size_t free = 0, total = 0;
    cudaMemGetInfo(&free, &total);
    if (free < (std::size_t{10} << 30)) {
        MESSAGE("skipped: this takes 10 GiB of the device");
        return;
    }
    cuda_test::own_stream stream;
    device_array<ls::bf16> x(rows * hidden), y(rows * hidden);
    x.zero();
    const auto last = random_values<ls::bf16>(hidden, 3);
    cudaMemcpy(x.data() + (rows - 1) * hidden, last.data(), hidden * sizeof(ls::bf16), cudaMemcpyHostToDevice);
    cudaDeviceSynchronize();
    ls::cuda::gelu<hidden>(stream, x.constants(rows, hidden), y.view(rows, hidden));
    stream.wait();
    std::vector<ls::bf16> got(hidden);
    cudaMemcpy(got.data(), y.data() + (rows - 1) * hidden, hidden * sizeof(ls::bf16), cudaMemcpyDeviceToHost);
    std::vector<double> exact;
    for (const double v : doubles(last)) exact.push_back(gelu::at(v).first);
    check_rounded_once(got, exact, sums);
}

}  // namespace activation_test
