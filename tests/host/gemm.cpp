// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <string>
#include <type_traits>
#include <vector>

#include <longspan/host/gemm.hpp>

#include "buffers.hpp"

namespace longspan {

using host::accumulate;
using test::matrix;

namespace {

template <class Operand, class T>
double operand_value(T stored) {
    if constexpr (std::is_void_v<Operand>) {
        return static_cast<double>(to_compute(stored));
    } else {
        return static_cast<double>(round_to<Operand>(to_compute(stored)));
    }
}

struct shape {
    index t, in, out;
};

/// Tile edges (12 and 6 rows, 32, 16 and 8 columns, 256 of the depth, blocks of 132 x 128 and larger), kept to small products.
std::vector<shape> shapes(int count, index limit) {
    const index edges[] = {1,  2,  5,   6,   7,   11,  12,  13,  15,  16,  17,  27,  31,  32, 33,
                           35, 67, 131, 132, 133, 127, 128, 129, 147, 255, 256, 257, 267, 515};
    std::mt19937 generator(7);
    std::uniform_int_distribution<std::size_t> pick(0, std::size(edges) - 1);
    std::vector<shape> result{{1, 1, 1},   {515, 3, 5}, {5, 515, 3}, {5, 515, 3}, {3, 5, 515},
                              {3, 5, 515}, {0, 3, 4},   {4, 0, 3},   {3, 4, 0}};
    while (static_cast<int>(result.size()) < count) {
        const shape s{edges[pick(generator)], edges[pick(generator)], edges[pick(generator)]};
        if (s.t * s.in * s.out <= limit) result.push_back(s);
    }
    return result;
}

/// |got - want| within what one rounding of `magnitude` = Σ|a·b| per step may cost, and one rounding of the result to Y.
template <class Y>
bool close(Y got, double want, double magnitude, index depth) {
    const double sums = static_cast<double>(depth + 2) * format<compute_t<Y>>::epsilon * magnitude;
    const double least = std::is_same_v<Y, fp16> ? 0x1p-24 : 0;  // a subnormal half's spacing
    const double bound = sums + format<Y>::epsilon * std::abs(want) + least;
    return std::abs(static_cast<double>(to_compute(got)) - want) <= bound;
}

/// All four functions on one shape against plain loops in double.
template <class T, class Parameter, class Gradient, class Operand = void>
void check(shape s, bool add, unsigned seed) {
    CAPTURE(s.t);
    CAPTURE(s.in);
    CAPTURE(s.out);
    CAPTURE(add);
    std::mt19937 generator(seed);
    const auto how = add ? accumulate::yes : accumulate::no;
    matrix<T> x(s.t, s.in), dy(s.t, s.out), y(s.t, s.out), dx(s.t, s.in);
    matrix<Parameter> w(s.out, s.in), bias(1, s.out);
    matrix<Gradient> dw(s.out, s.in), db(1, s.out);
    x.fill_random(generator), dy.fill_random(generator), w.fill_random(generator), bias.fill_random(generator);
    if (add) y.fill_random(generator), dx.fill_random(generator), dw.fill_random(generator), db.fill_random(generator);
    matrix<T> y0 = y, dx0 = dx;
    matrix<Gradient> dw0 = dw, db0 = db;
    const bool with_bias = seed % 2 == 0;

    host::linear<Operand>(x.view(), w.view(), with_bias ? bias.view().data : nullptr, y.view(), how);
    host::linear_input_gradient<Operand>(dy.view(), w.view(), dx.view(), how);
    host::linear_weight_gradient<Operand>(dy.view(), x.view(), dw.view(), how);
    host::linear_bias_gradient(dy.view(), db.view().data, how);

    const auto verify = [&](auto& got, auto& before, index rows, index columns, index depth, auto term, auto extra) {
        index wrong = 0;
        for (index r = 0; r < rows; ++r)
            for (index c = 0; c < columns; ++c) {
                double sum = add ? before.value(r, c) : 0, magnitude = std::abs(sum);
                sum += extra(c), magnitude += std::abs(extra(c));
                for (index k = 0; k < depth; ++k) {
                    const double value = term(r, c, k);
                    sum += value, magnitude += std::abs(value);
                }
                wrong += !close(got(r, c), sum, magnitude, depth);
            }
        CHECK(wrong == 0);
        CHECK(got.intact());
    };
    const auto of = [](auto& m, index r, index c) { return operand_value<Operand>(m(r, c)); };
    const auto none = [](index) { return 0.0; };
    verify(
        y, y0, s.t, s.out, s.in, [&](index t, index o, index i) { return of(x, t, i) * of(w, o, i); },
        [&](index o) { return with_bias ? bias.value(0, o) : 0.0; });
    verify(dx, dx0, s.t, s.in, s.out, [&](index t, index i, index o) { return of(dy, t, o) * of(w, o, i); }, none);
    verify(dw, dw0, s.out, s.in, s.t, [&](index o, index i, index t) { return of(dy, t, o) * of(x, t, i); }, none);
    verify(db, db0, 1, s.out, s.t, [&](index, index o, index t) { return dy.value(t, o); }, none);
}

}  // namespace

TEST_CASE("dense layers and their gradients agree with plain loops at tile edges, guards and gaps untouched") {
    unsigned seed = 1;
    for (const shape s : shapes(60, 1'000'000)) {
        check<float, float, float>(s, seed % 3 == 0, seed);
        ++seed;
    }
    for (const shape s : shapes(28, 200'000)) {
        check<double, double, double>(s, seed % 3 == 0, seed);
        check<bf16, bf16, float>(s, seed % 3 == 1, seed);
        check<fp16, fp16, float>(s, seed % 3 == 2, seed);
        check<float, float, float, tf32_format>(s, seed % 3 == 0, seed);
        check<float, float, bf16, bf16>(s, seed % 3 == 1, seed);
        ++seed;
    }
}

TEST_CASE(
    "every element is one chain of fused multiply-adds per stretch of the depth: its bits do not depend on its neighbours") {
    std::mt19937 generator(3);
    for (const index depth : {1, 16, 255, 256, 257, 640, 1000}) {
        const index t = 29, out = 37;
        matrix<float> x(t, depth), w(out, depth), y(t, out);
        x.fill_random(generator), w.fill_random(generator);
        host::linear(x.view(), w.view(), nullptr, y.view());
        const index stretches = ceil_div(depth, 256), step = round_up(ceil_div(depth, stretches), 16);
        index wrong = 0;
        for (index r = 0; r < t; ++r)
            for (index c = 0; c < out; ++c) {
                float total = 0;
                for (index k = 0; k < depth; k += step) {
                    float sum = 0;
                    for (index i = k; i < depth && i < k + step; ++i) sum = std::fma(x(r, i), w(c, i), sum);
                    total = k == 0 ? sum : total + sum;
                }
                wrong += total != y(r, c);
            }
        CHECK(wrong == 0);

        matrix<float> alone(1, out);
        host::linear(x.view().row_range(17, 1), w.view(), nullptr, alone.view());
        for (index c = 0; c < out; ++c) wrong += alone(0, c) != y(17, c);
        CHECK(wrong == 0);
    }
}

TEST_CASE_TEMPLATE("1, 2 and 3 threads agree to the bit for a depth of 256 to 8192", T, float, bf16) {
    const test::threads_restored restored;
    std::mt19937 generator(5);
    for (const index depth : {256, 768, 2048, 8192}) {
        const index m = 81, n = 150;
        matrix<T> x(m, depth), w(n, depth), tall(depth, m), wide(depth, n);
        x.fill_random(generator), w.fill_random(generator), tall.fill_random(generator), wide.fill_random(generator);
        std::vector<matrix<T>> y, dx;
        std::vector<matrix<float>> dw, db;
        for (const int threads : {1, 2, 3}) {
            test::use_threads(threads);
            y.emplace_back(m, n), dx.emplace_back(m, n), dw.emplace_back(m, n), db.emplace_back(1, n);
            host::linear(x.view(), w.view(), nullptr, y.back().view());
            host::linear_input_gradient(x.view(), wide.view(), dx.back().view());
            host::linear_weight_gradient(tall.view(), wide.view(), dw.back().view());
            host::linear_bias_gradient(wide.view(), db.back().view().data);
            CHECK(y.back().same_bits(y.front()));
            CHECK(dx.back().same_bits(dx.front()));
            CHECK(dw.back().same_bits(dw.front()));
            CHECK(db.back().same_bits(db.front()));
        }
    }
}

TEST_CASE_TEMPLATE("a low-precision layer is as accurate as rounding the same tensors and summing in float", T, bf16, fp16) {
    std::mt19937 generator(11);
    const index t = 48, in = 900, out = 40;
    matrix<double> exact_x(t, in), exact_w(out, in);
    exact_x.fill_random(generator), exact_w.fill_random(generator, 0.05);
    matrix<T> x(t, in), w(out, in), y(t, out);
    for (index r = 0; r < t; ++r)
        for (index c = 0; c < in; ++c) x(r, c) = T(static_cast<float>(exact_x(r, c)));
    for (index r = 0; r < out; ++r)
        for (index c = 0; c < in; ++c) w(r, c) = T(static_cast<float>(exact_w(r, c)));
    host::linear(x.view(), w.view(), nullptr, y.view());
    double ours = 0, unfused = 0;
    for (index r = 0; r < t; ++r)
        for (index c = 0; c < out; ++c) {
            double exact = 0;
            float sum = 0;
            for (index k = 0; k < in; ++k)
                exact += exact_x(r, k) * exact_w(c, k), sum += static_cast<float>(x(r, k)) * static_cast<float>(w(c, k));
            ours += std::pow(y.value(r, c) - exact, 2);
            unfused += std::pow(static_cast<double>(static_cast<float>(T(sum))) - exact, 2);
        }
    MESSAGE("RMS error relative to the unfused computation: ", std::sqrt(ours / unfused));
    CHECK(std::sqrt(ours) <= 1.05 * std::sqrt(unfused));
}

TEST_CASE("shapes that do not fit are refused with both numbers") {
    matrix<float> x(4, 5), w(3, 5), y(4, 3), other(4, 6);
    CHECK_THROWS_WITH_AS(host::linear(other.view(), w.view(), nullptr, y.view()),
                         "linear: expected x.columns and w.columns to be equal, got 6 and 5", bad_argument);
    CHECK_THROWS_AS(host::linear(x.view(), w.view(), nullptr, other.view()), bad_argument);
    CHECK_THROWS_AS(host::linear_input_gradient(x.view(), w.view(), other.view()), bad_argument);
    CHECK_THROWS_AS(host::linear_weight_gradient(x.view(), y.view(), w.view()), bad_argument);
    matrix_view<float> narrow{x.view().data, 4, 5, 4};
    CHECK_THROWS_WITH_AS(host::linear(narrow, w.view(), nullptr, y.view()),
                         "linear: expected x to have a stride of at least its columns, got [4, 5] with stride 4", bad_argument);
    CHECK_THROWS_WITH_AS(host::linear(matrix_view<float>{nullptr, 4, 5}, w.view(), nullptr, y.view()),
                         "linear: expected x to point at its values, got a null pointer", bad_argument);
}

}  // namespace longspan
