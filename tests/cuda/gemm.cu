// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <cstdlib>
#include <string>
#include <vector>

#include <longspan/cuda/gemm.cuh>

#include "support.cuh"

namespace longspan {

using cuda::accumulate;
using cuda::linear_bias_gradient;
using cuda_test::device_array;
using cuda_test::doubles;
using cuda_test::random_values;
using cuda_test::relative_error;

namespace {

/// A handle, a stream and the scratch of products.
struct bench {
    cuda::cublas blas;
    cuda_test::own_stream stream;
    device_array<std::byte> scratch{static_cast<std::size_t>(cuda::gemm_workspace)};
    [[nodiscard]] std::byte* workspace() {
        // The array starts 1 KiB into its allocation: at a multiple of 256.
        return scratch.data();
    }
};

/// [rows, columns] of random values on both sides, rows `stride` apart, NaN between them.
template <class T>
struct matrix {
    index rows, columns, stride;
    std::vector<T> host;
    device_array<T> device;

    matrix(index rows_, index columns_, index stride_, unsigned seed, double deviation = 1)
        : rows(rows_), columns(columns_), stride(stride_), host(random_values<T>(static_cast<std::size_t>(rows_ * stride_), seed, deviation)),
          device(host.size()) {
        for (index r = 0; r < rows; ++r)
            for (index c = columns; c < stride; ++c) host[static_cast<std::size_t>(r * stride + c)] = from_compute<T>(NAN);
        device.put(host);
    }
    [[nodiscard]] matrix_view<T> view() { return {device.data(), rows, columns, stride}; }
    [[nodiscard]] double operator()(index r, index c) const { return static_cast<double>(to_compute(host[static_cast<std::size_t>(r * stride + c)])); }
    /// What the device holds, without the gaps; fails when a gap was written.
    [[nodiscard]] std::vector<double> result() const {
        const std::vector<T> now = device.get();
        std::vector<double> values;
        bool gaps = true;
        for (index r = 0; r < rows; ++r)
            for (index c = 0; c < stride; ++c) {
                const double value = static_cast<double>(to_compute(now[static_cast<std::size_t>(r * stride + c)]));
                if (c < columns) values.push_back(value);
                else gaps = gaps && std::isnan(value);
            }
        CHECK_MESSAGE(gaps, "bytes between rows were written");
        return values;
    }
};

/// What rounding alone costs: the relative error of `exact` rounded to Y once; for floats, of a plain float sum over `depth`.
template <class Y>
double rounding_error(const std::vector<double>& exact, index depth) {
    if constexpr (std::is_same_v<Y, float>) {
        return 6e-8 * std::sqrt(static_cast<double>(depth)) + 1.2e-7;
    } else {
        std::vector<double> rounded;
        for (const double x : exact) rounded.push_back(static_cast<double>(to_compute(from_compute<Y>(static_cast<float>(x)))));
        return 1.05 * relative_error(rounded, exact);
    }
}

/// Operands as the tensor core sees them.
template <class Operand, class T>
double seen(double x) {
    if constexpr (std::is_same_v<Operand, tf32_format>) return static_cast<double>(tf32_format::round(static_cast<float>(x)));
    else return x;
}

constexpr double gelu(double x) { return 0.5 * x * (1 + std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x))); }
constexpr double gelu_slope(double x) {
    const double t = std::tanh(0.7978845608028654 * (x + 0.044715 * x * x * x));
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * 0.7978845608028654 * (1 + 3 * 0.044715 * x * x);
}

struct shape {
    index t, in, out, gap;  // gap: elements between the rows of each matrix
};
constexpr shape shapes[] = {{1, 8, 8, 0},      {1, 64, 200, 8},   {127, 64, 136, 0}, {128, 128, 128, 0},
                            {129, 256, 384, 8}, {259, 65, 33, 0},  {37, 3, 1, 5},     {515, 192, 72, 64}};

/// Both gradients at once, `db` twice what was there before: the sums are of all tokens, twice.
template <bool InEpilogue, class Operand, class T>
void check_parameter_gradients(bench& on, matrix<T>& dy, matrix<T>& x, const std::vector<double>& dw_sums, const std::vector<double>& twice_db_sums) {
    matrix<float> dw(dy.columns, x.columns, x.columns, 1);
    device_array<float> db(static_cast<std::size_t>(dy.columns));
    for (const auto add : {accumulate::no, accumulate::yes})
        cuda::linear_parameter_gradients<Operand, InEpilogue>(on.stream, on.blas, dy.view(), x.view(), dw.view(), db.data(), on.workspace(), add);
    std::vector<double> twice = dw_sums;
    for (double& z : twice) z *= 2;
    CHECK(relative_error(dw.result(), twice) <= rounding_error<float>(twice, dy.rows));
    CHECK(relative_error(doubles(db.get()), twice_db_sums) <= rounding_error<float>(twice_db_sums, dy.rows));
}

/// Every product of the header in one pair of formats, each element against sums in double.
template <class Operand, class T, class Y>
void check_products(bench& on, const shape& s, double slack) {
    const std::string about = std::string(format<T>::name) + " to " + format<Y>::name + ", " + std::to_string(s.t) + " tokens, " + std::to_string(s.in) +
                              " to " + std::to_string(s.out);
    CAPTURE(about);
    const double deviation = 1 / std::sqrt(static_cast<double>(s.in));
    matrix<T> x(s.t, s.in, s.in + s.gap, 1), w(s.out, s.in, s.in + s.gap, 2, deviation), bias(1, s.out, s.out, 3);
    matrix<Y> y(s.t, s.out, s.out + s.gap, 4), residual(s.t, s.out, s.out + s.gap, 5);
    matrix<T> dy(s.t, s.out, s.out + s.gap, 6);
    matrix<Y> dx(s.t, s.in, s.in + s.gap, 7);
    matrix<float> dw(s.out, s.in, s.in + s.gap, 8);
    constexpr bool biased = std::is_same_v<T, Y>;  // the library has no such kernel otherwise
    const T* const b = biased ? bias.device.data() : nullptr;
    const auto sum = [&](index depth, auto term) {
        double total = 0;
        for (index i = 0; i < depth; ++i) total += term(i);
        return total;
    };
    // Rows that are no whole 16 bytes run on older kernels, which round the product before they add a bias.
    const double twice = (s.in * sizeof(T)) % 16 != 0 || (s.out * sizeof(T)) % 16 != 0 ? 1.42 : 1;
    const auto close = [&](const char* what, const std::vector<double>& got, const std::vector<double>& exact, double bound) {
        const double error = relative_error(got, exact);
        CHECK_MESSAGE(error <= slack * bound, std::string(what), ": relative error ", error, ", expected at most ", slack * bound);
    };
    std::vector<double> plain, with_bias, added, residual_added;
    for (index t = 0; t < s.t; ++t)
        for (index o = 0; o < s.out; ++o) {
            const double z = sum(s.in, [&](index i) { return seen<Operand, T>(x(t, i)) * seen<Operand, T>(w(o, i)); });
            plain.push_back(z);
            with_bias.push_back(z + (biased ? bias(0, o) : 0));
            added.push_back(z + y(t, o));
            residual_added.push_back(z + (biased ? bias(0, o) : 0) + residual(t, o));
        }
    linear<Operand>(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace(), accumulate::yes);
    close("y +=", y.result(), added, rounding_error<Y>(added, s.in));
    linear<Operand>(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace());
    close("y =", y.result(), plain, rounding_error<Y>(plain, s.in));
    linear<Operand>(on.stream, on.blas, x.view(), w.view(), b, y.view(), on.workspace());
    close("y = with a bias", y.result(), with_bias, twice * rounding_error<Y>(with_bias, s.in));
    linear_residual<Operand>(on.stream, on.blas, x.view(), w.view(), b, matrix_view<const Y>(residual.view()), y.view(),
                             on.workspace());
    close("y = residual +", y.result(), residual_added, twice * rounding_error<Y>(residual_added, s.in));
    linear_residual<Operand>(on.stream, on.blas, x.view(), w.view(), b, matrix_view<const Y>(residual.view()), residual.view(),
                             on.workspace());
    close("residual +=", residual.result(), residual_added, twice * rounding_error<Y>(residual_added, s.in));

    std::vector<double> gradient, gradient_added;
    for (index t = 0; t < s.t; ++t)
        for (index i = 0; i < s.in; ++i) {
            const double z = sum(s.out, [&](index o) { return seen<Operand, T>(dy(t, o)) * seen<Operand, T>(w(o, i)); });
            gradient.push_back(z);
            gradient_added.push_back(z + dx(t, i));
        }
    linear_input_gradient<Operand>(on.stream, on.blas, dy.view(), w.view(), dx.view(), on.workspace(), accumulate::yes);
    close("dx +=", dx.result(), gradient_added, rounding_error<Y>(gradient_added, s.out));
    linear_input_gradient<Operand>(on.stream, on.blas, dy.view(), w.view(), dx.view(), on.workspace());
    close("dx =", dx.result(), gradient, rounding_error<Y>(gradient, s.out));

    std::vector<double> sums, sums_added, bias_sums;
    for (index o = 0; o < s.out; ++o) {
        for (index i = 0; i < s.in; ++i) {
            const double z = sum(s.t, [&](index t) { return seen<Operand, T>(dy(t, o)) * seen<Operand, T>(x(t, i)); });
            sums.push_back(z);
            sums_added.push_back(z + dw(o, i));
        }
        bias_sums.push_back(sum(s.t, [&](index t) { return dy(t, o); }));
    }
    linear_weight_gradient<Operand>(on.stream, on.blas, dy.view(), x.view(), dw.view(), on.workspace(), accumulate::yes);
    close("dw +=", dw.result(), sums_added, rounding_error<float>(sums_added, s.t));
    linear_weight_gradient<Operand>(on.stream, on.blas, dy.view(), x.view(), dw.view(), on.workspace());
    close("dw =", dw.result(), sums, rounding_error<float>(sums, s.t));
    const std::vector<double> once = dw.result();
    linear_weight_gradient<Operand>(on.stream, on.blas, dy.view(), x.view(), dw.view(), on.workspace());
    CHECK(dw.result() == once);

    device_array<float> db(static_cast<std::size_t>(s.out));
    linear_bias_gradient(on.stream, dy.view(), db.data(), on.workspace());
    close("db =", doubles(db.get()), bias_sums, rounding_error<float>(bias_sums, s.t));
    linear_bias_gradient(on.stream, dy.view(), db.data(), on.workspace(), accumulate::yes);
    for (double& z : bias_sums) z *= 2;
    close("db +=", doubles(db.get()), bias_sums, rounding_error<float>(bias_sums, s.t));
    check_parameter_gradients<false, Operand>(on, dy, x, sums, bias_sums);
}

}  // namespace

TEST_CASE("products of every format, odd shapes and strided views, against double") {
    bench on;
    for (const shape& s : shapes) {
        check_products<void, bf16, bf16>(on, s, 1);
        check_products<void, bf16, float>(on, s, 1);
        check_products<void, fp16, fp16>(on, s, 1);
        check_products<void, float, float>(on, s, 1);
    }
}

TEST_CASE("a bias' gradient by the product for its weight's, where the library has such a kernel") {
    bench on;
    const index t = 512, in = 192, out = 320;
    matrix<bf16> x(t, in, in, 1), dy(t, out, out, 2);
    std::vector<double> sums, twice_bias;
    for (index o = 0; o < out; ++o) {
        double bias = 0;
        for (index i = 0; i < in; ++i) {
            double weight = 0;
            for (index r = 0; r < t; ++r) weight += dy(r, o) * x(r, i);
            sums.push_back(weight);
        }
        for (index r = 0; r < t; ++r) bias += dy(r, o);
        twice_bias.push_back(2 * bias);
    }
    try {
        check_parameter_gradients<true, void>(on, dy, x, sums, twice_bias);
    } catch (const cuda::device_error& refused) {
        MESSAGE("skipped: ", refused.what());
    }
}

TEST_CASE("tf32 products: the tensor core's reading of floats") {
    bench on;
    // Against products of operands rounded to nearest; the distance is that of how the hardware reads the low bits.
    for (const shape& s : {shapes[4], shapes[7]}) {
        matrix<float> x(s.t, s.in, s.in, 1), w(s.out, s.in, s.in, 2), y(s.t, s.out, s.out, 3);
        linear<tf32_format>(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace());
        std::vector<double> exact, nearest;
        for (index t = 0; t < s.t; ++t)
            for (index o = 0; o < s.out; ++o) {
                double a = 0, b = 0;
                for (index i = 0; i < s.in; ++i) a += x(t, i) * w(o, i), b += seen<tf32_format, float>(x(t, i)) * seen<tf32_format, float>(w(o, i));
                exact.push_back(a), nearest.push_back(b);
            }
        const double ours = relative_error(y.result(), exact), least = relative_error(nearest, exact);
        MESSAGE("tf32: error " << ours << ", of operands rounded to nearest " << least);
        CHECK(ours <= 2.1 * least);
    }
}

TEST_CASE("gelu and its derivative in the product's epilogue") {
    bench on;
    const index t = 131, in = 192, out = 264;
    matrix<bf16> x(t, in, in, 1), w(out, in, in, 2, 0.07), bias(1, out, out, 3), pre(t, out, out, 4), y(t, out, out, 5);
    matrix<bf16> dy(t, in, in, 6), back(in, out, out, 7, 0.07), d_pre(t, out, out, 8);
    linear_gelu_tanh(on.stream, on.blas, x.view(), w.view(), bias.device.data(), pre.view(), y.view(), on.workspace());
    linear_input_gradient_gelu_tanh(on.stream, on.blas, dy.view(), back.view(), matrix_view<const bf16>(pre.view()), d_pre.view(), on.workspace());
    const std::vector<double> stored = pre.result();
    std::vector<double> before, after, slope, rounded;
    for (index r = 0; r < t; ++r)
        for (index o = 0; o < out; ++o) {
            double z = bias(0, o), g = 0;
            for (index i = 0; i < in; ++i) z += x(r, i) * w(o, i), g += dy(r, i) * back(i, o);
            before.push_back(z), after.push_back(gelu(z)), slope.push_back(g * gelu_slope(stored[before.size() - 1]));
            // The epilogue rounds the product before it meets the derivative, as two kernels would.
            rounded.push_back(round_to<bf16>(static_cast<float>(round_to<bf16>(static_cast<float>(g)) * gelu_slope(stored[before.size() - 1]))));
        }
    CHECK(relative_error(stored, before) <= rounding_error<bf16>(before, in));
    CHECK(relative_error(y.result(), after) <= 1.02 * rounding_error<bf16>(after, in));  // the library's tanh is approximate
    CHECK(relative_error(d_pre.result(), slope) <= 1.05 * relative_error(rounded, slope));
}

TEST_CASE("no tokens: nothing runs, and a weight's gradient over none is zero") {
    bench on;
    matrix<bf16> none(0, 16, 16, 1), w(24, 16, 16, 2), y(0, 24, 24, 3);
    matrix<float> dw(24, 16, 20, 4);
    linear(on.stream, on.blas, none.view(), w.view(), nullptr, y.view(), on.workspace());
    linear_input_gradient(on.stream, on.blas, y.view(), w.view(), none.view(), on.workspace());
    const std::vector<double> before = dw.result();
    linear_weight_gradient(on.stream, on.blas, y.view(), none.view(), dw.view(), on.workspace(), accumulate::yes);
    CHECK(dw.result() == before);
    linear_weight_gradient(on.stream, on.blas, y.view(), none.view(), dw.view(), on.workspace());
    CHECK(dw.result() == std::vector<double>(24 * 16, 0.0));
    device_array<float> db(24);
    linear_bias_gradient(on.stream, y.view(), db.data(), on.workspace());
    CHECK(db.get() == std::vector<float>(24, 0.0f));
}

TEST_CASE("the same bits every run, long depths and few outputs too") {
    bench on;
    const index t = 16384, width = 64, wide = 768;
    matrix<bf16> x(t, width, width, 1), dy(t, wide, wide, 2);
    matrix<float> dw(wide, width, width, 3);
    std::vector<float> first;
    for (int round = 0; round < 20; ++round) {
        dw.device.zero();
        linear_weight_gradient(on.stream, on.blas, dy.view(), x.view(), dw.view(), on.workspace(), accumulate::yes);
        const std::vector<float> bits = dw.device.get();
        if (round == 0) first = bits;
        CHECK(cuda_test::same_bits(bits, first));
    }
}

TEST_CASE("a product captured once and replayed gives the eager bits, and the choice of kernels travels as text") {
    bench on;
    matrix<bf16> x(300, 128, 128, 1), w(256, 128, 128, 2), y(300, 256, 256, 3);
    linear(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace());
    const std::vector<double> eager = y.result();
    cudaStream_t stream = static_cast<cuda::stream_ref>(on.stream);
    cudaGraph_t graph = nullptr;
    cudaGraphExec_t runnable = nullptr;
    cuda::check(cudaStreamBeginCapture(stream, cudaStreamCaptureModeGlobal), "capture");
    linear(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace());
    cuda::check(cudaStreamEndCapture(stream, &graph), "capture");
    cuda::check(cudaGraphInstantiate(&runnable, graph, 0), "capture");
    y.device.poison();
    cuda::check(cudaGraphLaunch(runnable, stream), "replay");
    on.stream.wait();
    CHECK(doubles(y.device.get()) == eager);
    cudaGraphExecDestroy(runnable);
    cudaGraphDestroy(graph);

    const std::vector<std::string> lines = on.blas.choices();
    REQUIRE(lines.size() == 2);
    CHECK(lines[0] == on.blas.machine());
    cuda::cublas another;
    CHECK(another.reuse(lines));
    CHECK(another.choices() == lines);  // kept, though nothing has asked for them yet
    y.device.poison();
    linear(on.stream, another, x.view(), w.view(), nullptr, y.view(), on.workspace());
    CHECK(doubles(y.device.get()) == eager);
    CHECK(another.choices() == lines);
    CHECK_FALSE(another.reuse({"some other device, cuBLASLt 1"}));
    CHECK_FALSE(another.reuse({}));
    for (const std::string& wrong : {std::string("product"), lines[1] + "0 ", lines[1].substr(0, lines[1].size() / 2), std::string(),
                                     "x" + lines[1], lines[1] + " 99999999999999999999999"})
        CHECK_THROWS_AS((void)another.reuse({lines[0], wrong}), bad_argument);
}

TEST_CASE("shapes, null pointers and scratch that do not fit are refused in a sentence, and the context lives on") {
    bench on;
    matrix<bf16> x(8, 16, 16, 1), w(24, 16, 16, 2), y(8, 24, 24, 3);
    CHECK_THROWS_AS(linear(on.stream, on.blas, x.view(), w.view(), nullptr, x.view(), on.workspace()), bad_argument);
    CHECK_THROWS_AS(linear(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), nullptr), bad_argument);
    CHECK_THROWS_AS(linear(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace() + 8), bad_argument);
    CHECK_THROWS_AS(linear(on.stream, on.blas, matrix_view<bf16>(nullptr, 8, 16), w.view(), nullptr, y.view(), on.workspace()), bad_argument);
    matrix<float> floats(8, 24, 24, 4);
    CHECK_THROWS_AS(linear(on.stream, on.blas, x.view(), w.view(), w.device.data(), floats.view(), on.workspace()), bad_argument);
    CHECK_THROWS_AS(linear_bias_gradient(on.stream, y.view(), nullptr, on.workspace()), bad_argument);
    CHECK_THROWS_WITH_AS(linear_weight_gradient(on.stream, on.blas, y.view(), x.view(), w.view(), on.workspace() + 1),
                         doctest::Contains("a workspace at a multiple of 256 bytes"), bad_argument);
    linear(on.stream, on.blas, x.view(), w.view(), nullptr, y.view(), on.workspace());
    for (const double z : y.result()) CHECK(std::isfinite(z));
}

TEST_CASE("tokens x width beyond 2^31 elements") {
    std::size_t free = 0, total = 0;
    cuda::check(cudaMemGetInfo(&free, &total), "memory");
    if (free < (std::size_t{12} << 30)) {
        MESSAGE("skipped: less than 12 GiB free");
        return;
    }
    bench on;
    const index in = 64, out = 8, t = (index{1} << 31) / in + 131;
    device_array<bf16> x(static_cast<std::size_t>(t * in)), y(static_cast<std::size_t>(t * out));
    x.zero();
    matrix<bf16> w(out, in, in, 2);
    const std::vector<bf16> row = random_values<bf16>(static_cast<std::size_t>(in), 3);
    const index rows[] = {0, (index{1} << 25) - 1, index{1} << 25, t - 1};
    for (const index r : rows)
        cuda::check(cudaMemcpy(x.data() + r * in, row.data(), row.size() * sizeof(bf16), cudaMemcpyHostToDevice), "row");
    linear(on.stream, on.blas, x.view(t, in), w.view(), nullptr, y.view(t, out), on.workspace());
    matrix<float> dw(out, in, in, 4);
    linear_weight_gradient(on.stream, on.blas, y.view(t, out), x.view(t, in), dw.view(), on.workspace());
    device_array<float> db(static_cast<std::size_t>(in));
    linear_bias_gradient(on.stream, x.view(t, in), db.data(), on.workspace());
    on.stream.wait();
    std::vector<double> got, exact, outer;
    for (const index r : rows) {
        std::vector<bf16> values(static_cast<std::size_t>(out));
        cuda::check(cudaMemcpy(values.data(), y.data() + r * out, values.size() * sizeof(bf16), cudaMemcpyDeviceToHost), "row");
        for (index o = 0; o < out; ++o) {
            got.push_back(static_cast<double>(to_compute(values[static_cast<std::size_t>(o)])));
            double z = 0;
            for (index i = 0; i < in; ++i) z += static_cast<double>(to_compute(row[static_cast<std::size_t>(i)])) * w(o, i);
            exact.push_back(z);
        }
    }
    CHECK(relative_error(got, exact) <= rounding_error<bf16>(exact, in));
    for (index o = 0; o < out; ++o)
        for (index i = 0; i < in; ++i) outer.push_back(4 * got[static_cast<std::size_t>(o)] * static_cast<double>(to_compute(row[static_cast<std::size_t>(i)])));
    CHECK(relative_error(dw.result(), outer) <= 1e-6);
    std::vector<double> four;
    for (const bf16 z : row) four.push_back(4 * static_cast<double>(to_compute(z)));
    CHECK(relative_error(doubles(db.get()), four) <= 1e-6);
}

}  // namespace longspan
