// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <random>
#include <vector>

#include <longspan/host/norm.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using host::accumulate;
using test::matrix;

namespace {

constexpr double epsilon = 1e-5;

/// A norm of [t, groups·size], with or without a mean; groups > 1 is head_norm.
struct shape {
    index t, size, groups = 1;
    bool centred = false;
    [[nodiscard]] index columns() const { return size * groups; }
};

/// Everything from the definition, in plain loops in double; the magnitudes bound what a rounding can cost.
struct reference {
    std::vector<double> y, dx, dw, db, mean, rstd, y_size, dx_size, dw_size, db_size;

    template <class X, class W, class DY>
    reference(const shape& s, matrix<X>& x, matrix<W>& w, matrix<W>& b, matrix<DY>& dy, double eps = epsilon) {
        const auto cells = static_cast<std::size_t>(s.t * s.columns()), width = static_cast<std::size_t>(s.size);
        for (auto* v : {&y, &dx, &y_size, &dx_size}) v->assign(cells, 0);
        for (auto* v : {&dw, &db, &dw_size, &db_size}) v->assign(width, 0);
        const double n = static_cast<double>(s.size);
        for (index t = 0; t < s.t; ++t) {
            for (index g = 0; g < s.groups; ++g) {
                double m = 0, square = 0, largest = 0;
                for (index c = 0; c < s.size; ++c) {
                    m += x.value(t, g * s.size + c) / n;
                    largest = std::max(largest, std::abs(x.value(t, g * s.size + c)));
                }
                if (!s.centred) m = 0;
                for (index c = 0; c < s.size; ++c) square += std::pow(x.value(t, g * s.size + c) - m, 2) / n;
                const double r = 1 / std::sqrt(square + eps);
                mean.push_back(m), rstd.push_back(r);
                double along = 0, level = 0, along_size = 0, level_size = 0;
                for (index c = 0; c < s.size; ++c) {
                    const double unit = (x.value(t, g * s.size + c) - m) * r, up = dy.value(t, g * s.size + c) * w.value(0, c);
                    along += up * unit / n, level += s.centred ? up / n : 0;
                    along_size += std::abs(up) * largest * r / n, level_size += std::abs(up) / n;
                }
                for (index c = 0; c < s.size; ++c) {
                    const auto at = static_cast<std::size_t>(t * s.columns() + g * s.size + c), column = static_cast<std::size_t>(c);
                    const double unit = (x.value(t, g * s.size + c) - m) * r, d = dy.value(t, g * s.size + c);
                    y[at] = unit * w.value(0, c) + (s.centred ? b.value(0, c) : 0);
                    y_size[at] = largest * r * std::abs(w.value(0, c)) + std::abs(s.centred ? b.value(0, c) : 0);
                    dx[at] = r * (d * w.value(0, c) - unit * along - level);
                    dx_size[at] = r * (std::abs(d * w.value(0, c)) + largest * r * along_size + level_size);
                    dw[column] += d * unit, db[column] += d;
                    dw_size[column] += std::abs(d) * largest * r, db_size[column] += std::abs(d);
                }
            }
        }
    }
};

/// The op under its public name.
template <class X, class W, class Y, class S>
void forward(const shape& s, matrix_view<X> x, const W* w, const W* b, double eps, matrix_view<Y> y, S* mean, S* rstd) {
    if (s.centred) host::layer_norm(x, w, b, eps, y, mean, rstd);
    else if (s.groups > 1) host::head_norm(x, w, s.size, eps, y, rstd);
    else host::rms_norm(x, w, eps, y, rstd);
}
template <class DY, class X, class W, class S, class DX, class DW>
void backward(const shape& s, matrix_view<DY> dy, matrix_view<X> x, const W* w, const S* mean, const S* rstd, matrix_view<DX> dx, bool add,
              DW* dw, DW* db) {
    if (s.centred) host::layer_norm_backward(dy, x, w, mean, rstd, dx, accumulate{add}, dw, db);
    else if (s.groups > 1) host::head_norm_backward(dy, x, w, s.size, rstd, dx, dw);
    else host::rms_norm_backward(dy, x, w, rstd, dx, accumulate{add}, dw);
}

/// Inputs of a shape, poisoned outputs, and the results of both passes.
template <class X, class W = X, class G = X>
struct problem {
    using S = compute_t<X>;
    shape s;
    matrix<X> x, y;
    matrix<W> w, b;
    matrix<G> dy, dx;
    matrix<S> mean, rstd, dw, db;

    problem(const shape& of, unsigned seed, index gap = 3)
        : s(of), x(s.t, s.columns(), gap), y(s.t, s.columns(), gap), w(1, s.size), b(1, s.size), dy(s.t, s.columns(), gap),
          dx(s.t, s.columns(), gap), mean(1, s.t * s.groups), rstd(1, s.t * s.groups), dw(1, s.size), db(1, s.size) {
        std::mt19937 generator(seed);
        x.fill_random(generator), w.fill_random(generator), b.fill_random(generator), dy.fill_random(generator);
        dw.fill_random(generator), db.fill_random(generator);
    }
    void run(bool add = false, double eps = epsilon) {
        forward(s, x.view(), w.view().data, b.view().data, eps, y.view(), mean.view().data, rstd.view().data);
        backward(s, dy.view(), x.view(), w.view().data, mean.view().data, rstd.view().data, dx.view(), add, dw.view().data, db.view().data);
    }
    [[nodiscard]] bool intact() {
        return x.intact() && y.intact() && w.intact() && b.intact() && dy.intact() && dx.intact() && mean.intact() && rstd.intact() &&
               dw.intact() && db.intact();
    }
};

/// |got − want| within `roundings` of the magnitude in T, and one of the value in its format F.
template <class F>
bool close(F got, double want, double magnitude, double roundings) {
    const double least = std::is_same_v<F, fp16> ? 0x1p-24 : 0;
    return std::abs(static_cast<double>(to_compute(got)) - want) <=
           roundings * format<compute_t<F>>::epsilon * magnitude + format<F>::epsilon / 2 * std::abs(want) * 1.01 + least;
}

template <class X, class W = X, class G = X>
void against_definition(const shape& s, bool add, unsigned seed) {
    INFO("[", s.t, ", ", s.groups, " x ", s.size, "], centred: ", s.centred);
    problem<X, W, G> p(s, seed);
    if (s.groups > 1) add = false;
    std::mt19937 generator(seed + 1);
    if (add) p.dx.fill_random(generator);
    auto dx_before = p.dx, dy_before = p.dy;
    auto x_before = p.x;
    auto dw_before = p.dw, db_before = p.db;
    const reference want(s, p.x, p.w, p.b, p.dy);
    p.run(add);
    REQUIRE(p.intact());
    REQUIRE((p.x.same_bits(x_before) && p.dy.same_bits(dy_before)));
    // A row's sums: 16 or 8 lanes of columns / lanes terms; a weight's: panels of 16 rows.
    const double row = 8 + static_cast<double>(s.size) / 16, all = 24 + static_cast<double>(s.t * s.groups) / 64;
    for (index i = 0; s.size > 0 && i < s.t * s.groups; ++i) {
        REQUIRE(close(p.rstd(0, i), want.rstd[static_cast<std::size_t>(i)], want.rstd[static_cast<std::size_t>(i)], row));
        if (s.centred) REQUIRE(close(p.mean(0, i), want.mean[static_cast<std::size_t>(i)], 4.0, row));
    }
    for (index t = 0; t < s.t; ++t) {
        for (index c = 0; c < s.columns(); ++c) {
            const auto at = static_cast<std::size_t>(t * s.columns() + c);
            REQUIRE(close(p.y(t, c), want.y[at], want.y_size[at], row));
            const double before = add ? dx_before.value(t, c) : 0;
            REQUIRE(close(p.dx(t, c), before + want.dx[at], std::abs(before) + want.dx_size[at], 2 * row));
        }
    }
    for (index c = 0; c < s.size; ++c) {
        const auto at = static_cast<std::size_t>(c);
        REQUIRE(close(p.dw(0, c), dw_before.value(0, c) + want.dw[at], std::abs(dw_before.value(0, c)) + want.dw_size[at], all + row));
        if (s.centred) REQUIRE(close(p.db(0, c), db_before.value(0, c) + want.db[at], std::abs(db_before.value(0, c)) + want.db_size[at], all));
        else REQUIRE(p.db(0, c) == db_before(0, c));
    }
}

/// Edges of packs (8 and 16), of tasks (16 rows), of a round of panels (1024 rows).
std::vector<shape> shapes(int count, index limit) {
    const index widths[] = {1, 2, 7, 8, 9, 15, 16, 17, 24, 31, 32, 33, 35, 63, 64, 65, 67, 127, 128, 131};
    const index rows[] = {0, 1, 2, 3, 15, 16, 17, 31, 32, 33, 35, 47, 130};
    std::mt19937 generator(5);
    std::vector<shape> result{{1, 1}, {1, 1, 1, true}, {0, 5}, {0, 5, 1, true}, {0, 5, 3}, {5, 0}, {5, 0, 1, true}};
    while (static_cast<int>(result.size()) < count) {
        const auto kind = generator() % 3;
        const shape s{rows[generator() % std::size(rows)], widths[generator() % std::size(widths)],
                      kind == 2 ? 2 + static_cast<index>(generator() % 3) : 1, kind == 1};
        if (s.t * s.columns() <= limit) result.push_back(s);
    }
    return result;
}

}  // namespace

TEST_CASE("norm: forward and backward are their definitions, in every format") {
    unsigned seed = 0;
    for (const shape& s : shapes(60, 3000)) {
        against_definition<float>(s, seed % 2 == 0, seed);
        against_definition<double>(s, seed % 2 == 1, seed);
        against_definition<bf16>(s, seed % 3 == 0, seed);
        against_definition<fp16, fp16, fp16>(s, false, seed);
        against_definition<float, bf16, bf16>(s, true, seed);
        ++seed;
    }
}

TEST_CASE("norm: more rows than a round of partial sums, and rows too wide for them") {
    for (const bool centred : {false, true}) {
        against_definition<float>({.t = 1024, .size = 5, .centred = centred}, false, 1);
        against_definition<float>({.t = 2 * 1024 + 3, .size = 17, .centred = centred}, true, 2);
        against_definition<double>({.t = 1025, .size = 9, .centred = centred}, false, 3);
        against_definition<float>({.t = 131, .size = 8195, .centred = centred}, true, 4);  // float: 8192 is the last that fits
        against_definition<double>({.t = 19, .size = 4097, .centred = centred}, false, 5);
    }
    against_definition<float>({.t = 700, .size = 24, .groups = 3}, false, 6);
}

TEST_CASE("norm: gradients are central differences in double") {
    std::mt19937 generator(3);
    int rms = 0, layer = 0, head = 0;
    for (const shape& s : shapes(1100, 600)) {
        if (s.t * s.columns() == 0) continue;
        ++(s.centred ? layer : s.groups > 1 ? head : rms);
        problem<double> p(s, static_cast<unsigned>(generator()));
        const double eps = 0.1;  // a smaller one bends rows of one column within the step
        for (index c = 0; c < s.size; ++c) p.dw(0, c) = p.db(0, c) = 0;
        p.run(false, eps);
        const auto loss = [&] {
            matrix<double> y(s.t, s.columns()), mean(1, s.t * s.groups), rstd(1, s.t * s.groups);
            forward(s, p.x.view(), p.w.view().data, p.b.view().data, eps, y.view(), mean.view().data, rstd.view().data);
            return test::dot(y, p.dy);
        };
        test::check_gradient("dx", p.x, p.dx, generator, loss);
        test::check_gradient("dw", p.w, p.dw, generator, loss);
        if (s.centred) test::check_gradient("db", p.b, p.db, generator, loss);
    }
    CHECK(rms >= 200);
    CHECK(layer >= 200);
    CHECK(head >= 200);
}

TEST_CASE("norm: narrow formats lose no more than their one rounding") {
    const auto rule = [](auto tag, bool centred) {
        using F = decltype(tag);
        const shape s{.t = 64, .size = 200, .centred = centred};
        problem<F> p(s, 9);
        const reference want(s, p.x, p.w, p.b, p.dy);
        p.run();
        test::rounding_rule<F> y, dx;
        for (index t = 0; t < s.t; ++t) {
            for (index c = 0; c < s.size; ++c) {
                y.add(p.y.value(t, c), want.y[static_cast<std::size_t>(t * s.size + c)]);
                dx.add(p.dx.value(t, c), want.dx[static_cast<std::size_t>(t * s.size + c)]);
            }
        }
        CHECK(y.ratio() <= 1.05);
        CHECK(dx.ratio() <= 1.05);
    };
    for (const bool centred : {false, true}) {
        rule(bf16{}, centred);
        rule(fp16{}, centred);
    }
}

TEST_CASE("norm: 1, 2 and 3 threads, and twice, are the same bits") {
    const test::threads_restored restore;
    for (const shape s : {shape{.t = 1100, .size = 37}, shape{.t = 333, .size = 24, .groups = 5}, shape{.t = 270, .size = 100, .centred = true},
                          shape{.t = 40, .size = 8200}}) {
        test::use_threads(1);
        problem<float> one(s, 4);
        one.run();
        for (const int threads : {1, 2, 3}) {
            test::use_threads(threads);
            problem<float> other(s, 4);
            other.run();
            CHECK(one.y.same_bits(other.y));
            CHECK(one.dx.same_bits(other.dx));
            CHECK(one.dw.same_bits(other.dw));
            CHECK(one.db.same_bits(other.db));
            CHECK(one.rstd.same_bits(other.rstd));
        }
    }
}

TEST_CASE("norm: a row's bits depend on nothing but the row") {
    for (const bool centred : {false, true}) {
        const shape s{.t = 40, .size = 51, .centred = centred};
        problem<float> p(s, 8), q(s, 8, 6);  // the same numbers, other addresses
        p.run();
        // Row 7 of the other document moves to infinity, row 20 takes what row 3 held.
        for (index c = 0; c < s.size; ++c) q.x(7, c) = INFINITY, q.x(20, c) = p.x(3, c), q.dy(20, c) = p.dy(3, c);
        q.run();
        for (index t = 0; t < s.t; ++t) {
            if (t == 7) continue;
            const index from = t == 20 ? 3 : t;
            for (index c = 0; c < s.size; ++c) {
                REQUIRE(q.y(t, c) == p.y(from, c));
                REQUIRE(q.dx(t, c) == p.dx(from, c));
            }
        }
    }
}

TEST_CASE("norm: outputs may lie on inputs, weights and gradients may be left out") {
    for (const shape s : {shape{.t = 37, .size = 21}, shape{.t = 37, .size = 21, .groups = 2}, shape{.t = 37, .size = 21, .centred = true},
                          shape{.t = 5, .size = 8197}}) {
        problem<float> apart(s, 6), on_dy(s, 6), on_x(s, 6), alone(s, 6);
        apart.run();
        on_dy.run();
        on_dy.dw = on_x.dw, on_dy.db = on_x.db;
        backward(s, on_dy.dy.view(), on_dy.x.view(), on_dy.w.view().data, on_dy.mean.view().data, on_dy.rstd.view().data, on_dy.dy.view(),
                 false, on_dy.dw.view().data, on_dy.db.view().data);
        CHECK(on_dy.dy.same_bits(apart.dx));
        CHECK(on_dy.dw.same_bits(apart.dw));
        CHECK(on_dy.db.same_bits(apart.db));
        forward(s, on_x.x.view(), on_x.w.view().data, on_x.b.view().data, epsilon, on_x.x.view(), on_x.mean.view().data, on_x.rstd.view().data);
        CHECK(on_x.x.same_bits(apart.y));
        // No weight is a weight of ones and no bias; no gradient wanted changes none of dx.
        for (index c = 0; c < s.size; ++c) alone.w(0, c) = 1, alone.b(0, c) = 0;
        alone.run();
        problem<float> none(s, 6);
        const float* const no_weight = nullptr;
        float* const no_gradient = nullptr;
        forward(s, none.x.view(), no_weight, no_weight, epsilon, none.y.view(), none.mean.view().data, none.rstd.view().data);
        backward(s, none.dy.view(), none.x.view(), no_weight, none.mean.view().data, none.rstd.view().data, none.dx.view(), false,
                 no_gradient, no_gradient);
        CHECK(none.y.same_bits(alone.y));
        CHECK(none.dx.same_bits(alone.dx));
        CHECK(none.intact());
    }
}

TEST_CASE("norm: what does not fit is refused with what came") {
    matrix<float> a(4, 16), b(4, 15), w(1, 16), s(1, 16);
    float* const p = w.view().data;
    float* const r = s.view().data;
    CHECK_THROWS_WITH_AS(host::rms_norm(a.view(), p, epsilon, b.view(), r),
                         "rms_norm: expected x and y to have one shape, got [4, 16] and [4, 15]", bad_argument);
    CHECK_THROWS_AS(host::rms_norm_backward(a.view(), b.view(), p, r, a.view(), accumulate::no, p), bad_argument);
    CHECK_THROWS_AS(host::rms_norm_backward(a.view(), a.view(), p, r, b.view(), accumulate::no, p), bad_argument);
    CHECK_THROWS_AS(host::layer_norm(a.view(), p, p, epsilon, b.view(), r, r), bad_argument);
    CHECK_THROWS_AS(host::layer_norm_backward(a.view(), a.view(), p, r, r, b.view(), accumulate::no, p, p), bad_argument);
    CHECK_THROWS_WITH_AS(host::head_norm(a.view(), p, 5, epsilon, a.view(), r),
                         "head_norm: expected whole heads, got 16 columns and heads of 5", bad_argument);
    CHECK_THROWS_AS(host::head_norm_backward(a.view(), a.view(), p, 0, r, a.view(), p), bad_argument);
}

}  // namespace longspan
