// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <random>
#include <string>
#include <type_traits>

#include <longspan/host/activation.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using test::matrix;

namespace {

double cdf(double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; }

/// The functions under test: their values and slopes from the definition, and the ops. Gated ones take [gate | up].
struct silu_gated {
    static constexpr bool gated = true;
    static constexpr const char* name = "silu_gated";
    static double value(double x) { return x / (1 + std::exp(-x)); }
    static double slope(double x) { return 1 / (1 + std::exp(-x)) * (1 + x / (1 + std::exp(x))); }
    static void forward(auto x, auto y) { host::silu_gated(x, y); }
    static void backward(auto... views) { host::silu_gated_backward(views...); }
};
struct gelu_gated {
    static constexpr bool gated = true;
    static constexpr const char* name = "gelu_gated";
    static double value(double x) { return x * cdf(x); }
    static double slope(double x) { return cdf(x) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI); }
    static void forward(auto x, auto y) { host::gelu_gated(x, y); }
    static void backward(auto... views) { host::gelu_gated_backward(views...); }
};
struct gelu : gelu_gated {
    static constexpr bool gated = false;
    static constexpr const char* name = "gelu";
    static void forward(auto x, auto y) { host::gelu(x, y); }
    static void backward(auto... views) { host::gelu_backward(views...); }
};
struct gelu_tanh {
    static constexpr bool gated = false;
    static constexpr const char* name = "gelu_tanh";
    static double inner(double x) { return std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x); }
    static double value(double x) { return x / 2 * (1 + std::tanh(inner(x))); }
    static double slope(double x) {
        const double t = std::tanh(inner(x));
        return (1 + t) / 2 + x / 2 * (1 - t * t) * std::sqrt(2 / M_PI) * (1 + 3 * 0.044715 * x * x);
    }
    static void forward(auto x, auto y) { host::gelu_tanh(x, y); }
    static void backward(auto... views) { host::gelu_tanh_backward(views...); }
};

/// Calls f with each function.
template <class F>
void for_each_function(F f) {
    f(silu_gated{});
    f(gelu_gated{});
    f(gelu{});
    f(gelu_tanh{});
}

/// Inputs of a shape and poisoned outputs.
template <class Function, class X, class G = X>
struct problem {
    index t, f;
    matrix<X> x, y, again;
    matrix<G> dy, dx;

    problem(index tokens, index width, unsigned seed, index gap = 3, double scale = 3)
        : t(tokens), f(width), x(t, columns(), gap), y(t, f, gap), again(t, f, gap), dy(t, f, gap), dx(t, columns(), gap) {
        std::mt19937 generator(seed);
        x.fill_random(generator, scale), dy.fill_random(generator);
    }
    [[nodiscard]] index columns() const { return Function::gated ? 2 * f : f; }
    void run() {
        Function::forward(x.view(), y.view());
        Function::backward(dy.view(), x.view(), dx.view(), again.view());
    }
    /// What the definition says, in double: y, and dx for the gate (or x) and for `up`.
    [[nodiscard]] double want_y(index r, index c) {
        return Function::value(x.value(r, c)) * (Function::gated ? x.value(r, f + c) : 1);
    }
    [[nodiscard]] double want_dx(index r, index c) {
        if (c >= f) return dy.value(r, c - f) * Function::value(x.value(r, c - f));
        return dy.value(r, c) * Function::slope(x.value(r, c)) * (Function::gated ? x.value(r, f + c) : 1);
    }
    [[nodiscard]] bool intact() { return x.intact() && y.intact() && again.intact() && dy.intact() && dx.intact(); }
};

/// Within a few roundings of the factors' size: Φ and tanh are right to an epsilon of 1, not of themselves.
template <class F>
bool close(F got, double want, double magnitude) {
    const double least = std::is_same_v<F, fp16> ? 0x1p-24 : 0;
    return std::abs(static_cast<double>(to_compute(got)) - want) <=
           8 * format<compute_t<F>>::epsilon * magnitude + format<F>::epsilon / 2 * std::abs(want) * 1.01 + least;
}

template <class Function, class X, class G = X>
void against_definition(index t, index f, unsigned seed) {
    INFO(std::string(Function::name), " [", t, ", ", f, "]");
    problem<Function, X, G> p(t, f, seed);
    auto x_before = p.x;
    auto dy_before = p.dy;
    p.run();
    REQUIRE(p.intact());
    REQUIRE((p.x.same_bits(x_before) && p.dy.same_bits(dy_before)));
    REQUIRE(p.again.same_bits(p.y));
    for (index r = 0; r < t; ++r) {
        for (index c = 0; c < f; ++c) {
            const double gate = std::abs(p.x.value(r, c)), up = Function::gated ? std::abs(p.x.value(r, f + c)) : 1;
            REQUIRE(close(p.y(r, c), p.want_y(r, c), gate * up));
            REQUIRE(close(p.dx(r, c), p.want_dx(r, c), std::abs(p.dy.value(r, c)) * (1 + gate) * up));
            if (Function::gated) REQUIRE(close(p.dx(r, f + c), p.want_dx(r, f + c), std::abs(p.dy.value(r, c)) * gate));
        }
    }
}

constexpr index widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 31, 32, 33, 35, 67};
constexpr index rows[] = {0, 1, 2, 7, 8, 9, 15, 16, 17, 19};

}  // namespace

TEST_CASE("activation: forward and backward are their definitions, in every format, and backward makes the forward's bits again") {
    for_each_function([](auto function) {
        using F = decltype(function);
        std::mt19937 generator(1);
        for (unsigned i = 0; i < 40; ++i) {
            const index t = i == 0 ? 3 : rows[generator() % std::size(rows)], f = i == 0 ? 0 : widths[generator() % std::size(widths)];
            against_definition<F, float>(t, f, i);
            against_definition<F, double>(t, f, i);
            against_definition<F, bf16>(t, f, i);
            against_definition<F, fp16>(t, f, i);
            against_definition<F, bf16, float>(t, f, i);
        }
    });
}

TEST_CASE("activation: gradients are central differences in double") {
    for_each_function([](auto function) {
        using F = decltype(function);
        std::mt19937 generator(2);
        for (int i = 0; i < 220; ++i) {
            problem<F, double> p(1 + static_cast<index>(generator() % 9), widths[generator() % std::size(widths)],
                                 static_cast<unsigned>(generator()), 3, 1.5);
            p.run();
            INFO(std::string(F::name));
            test::check_gradient("dx", p.x, p.dx, generator, [&] {
                matrix<double> y(p.t, p.f);
                F::forward(p.x.view(), y.view());
                return test::dot(y, p.dy);
            });
        }
    });
}

TEST_CASE("activation: narrow formats lose no more than their one rounding") {
    for_each_function([](auto function) {
        const auto rule = [](auto& p) {
            using X = std::remove_cvref_t<decltype(p.x(0, 0))>;
            p.run();
            test::rounding_rule<X> y, dx;
            for (index r = 0; r < p.t; ++r) {
                for (index c = 0; c < p.f; ++c) y.add(p.y.value(r, c), p.want_y(r, c));
                for (index c = 0; c < p.columns(); ++c) dx.add(p.dx.value(r, c), p.want_dx(r, c));
            }
            CHECK(y.ratio() <= 1.05);
            CHECK(dx.ratio() <= 1.05);
        };
        problem<decltype(function), bf16> narrow(50, 100, 7);
        problem<decltype(function), fp16> half(50, 100, 7);
        rule(narrow);
        rule(half);
    });
}

TEST_CASE("activation: a finite input gives a finite result, at any size") {
    for_each_function([](auto function) {
        using F = decltype(function);
        for (const double size : {1e-37, 1e-20, 1e-3, 5.0, 9.5, 15.9, 16.1, 88.0, 89.0, 104.0, 1e9, 1e18, 3e19, 1e30, 3e38}) {
            problem<F, float> p(1, 4, 1);
            for (index c = 0; c < 4; ++c) {
                p.x(0, c) = static_cast<float>(c % 2 == 0 ? size : -size);
                if (F::gated) p.x(0, 4 + c) = 1;
            }
            p.run();
            for (index c = 0; c < 4; ++c) {
                INFO(std::string(F::name), " of ", p.x(0, c));
                CHECK(close(p.y(0, c), F::value(p.x.value(0, c)), size));
                CHECK(close(p.dx(0, c), p.dy.value(0, c) * F::slope(p.x.value(0, c)), 4.0));
            }
        }
    });
}

TEST_CASE("activation: a value's bits depend neither on its place nor on the number of threads") {
    const test::threads_restored restore;
    for_each_function([](auto function) {
        using F = decltype(function);
        test::use_threads(1);
        problem<F, float> p(35, 41, 3);
        p.run();
        for (const int threads : {1, 2, 3}) {
            test::use_threads(threads);
            problem<F, float> q(35, 41, 3, 6);  // other addresses
            q.run();
            for (index r = 0; r < p.t; ++r)
                for (index c = 0; c < p.f; ++c) REQUIRE((q.y(r, c) == p.y(r, c) && q.dx(r, c) == p.dx(r, c)));
        }
        // The same numbers in one column each.
        for (index c = 0; c < p.f; c += 5) {
            problem<F, float> one(1, 1, 3);
            one.x(0, 0) = p.x(4, c), one.dy(0, 0) = p.dy(4, c);
            if (F::gated) one.x(0, 1) = p.x(4, p.f + c);
            one.run();
            REQUIRE((one.y(0, 0) == p.y(4, c) && one.dx(0, 0) == p.dx(4, c)));
        }
    });
}

TEST_CASE("activation: y may be left out, and outputs may lie on inputs") {
    for_each_function([](auto function) {
        using F = decltype(function);
        problem<F, float> apart(19, 37, 5), without(19, 37, 5), on(19, 37, 5);
        apart.run();
        F::backward(without.dy.view(), without.x.view(), without.dx.view());
        CHECK(without.dx.same_bits(apart.dx));
        F::backward(on.dy.view(), on.x.view(), on.x.view(), on.dy.view());
        CHECK(on.x.same_bits(apart.dx));
        CHECK(on.dy.same_bits(apart.y));
        if constexpr (!F::gated) {
            F::forward(apart.x.view(), apart.x.view());
            CHECK(apart.x.same_bits(apart.y));
        }
    });
}

TEST_CASE("activation: what does not fit is refused with what came") {
    matrix<float> wide(4, 16), half(4, 8), odd(4, 7), tall(5, 8);
    CHECK_THROWS_WITH_AS(host::silu_gated(wide.view(), odd.view()),
                         "silu_gated: expected x.columns and 2 · y.columns to be equal, got 16 and 14", bad_argument);
    CHECK_THROWS_AS(host::silu_gated(wide.view(), tall.view()), bad_argument);
    CHECK_THROWS_AS(host::silu_gated_backward(odd.view(), wide.view(), wide.view()), bad_argument);
    CHECK_THROWS_AS(host::silu_gated_backward(tall.view(), wide.view(), wide.view()), bad_argument);
    CHECK_THROWS_AS(host::silu_gated_backward(half.view(), wide.view(), half.view()), bad_argument);
    CHECK_THROWS_AS(host::silu_gated_backward(half.view(), wide.view(), wide.view(), odd.view()), bad_argument);
    CHECK_THROWS_AS(host::gelu_gated(wide.view(), odd.view()), bad_argument);
    CHECK_THROWS_WITH_AS(host::gelu(half.view(), odd.view()), "gelu: expected x and y to have one shape, got [4, 8] and [4, 7]", bad_argument);
    CHECK_THROWS_AS(host::gelu_tanh(half.view(), tall.view()), bad_argument);
    CHECK_THROWS_AS(host::gelu_backward(odd.view(), half.view(), half.view()), bad_argument);
    CHECK_THROWS_AS(host::gelu_backward(half.view(), half.view(), odd.view()), bad_argument);
    CHECK_THROWS_AS(host::gelu_tanh_backward(half.view(), half.view(), half.view(), odd.view()), bad_argument);
}

}  // namespace longspan
