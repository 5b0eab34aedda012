// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <random>
#include <vector>

#include <longspan/host/head_norm_rotary.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using test::matrix;

namespace {

constexpr double epsilon = 1e-5;

/// Queries or keys with what both passes make of them; outputs are poisoned, rows lie apart.
template <class X, class W = X>
struct one_kind {
    using S = compute_t<X>;
    index head;
    matrix<X> x, y, dy, dx;
    matrix<W> w;
    matrix<S> rstd, dw;

    one_kind(index t, index heads, index head_, std::mt19937& generator)
        : head(head_), x(t, heads * head), y(t, heads * head, 5), dy(t, heads * head, 2), dx(t, heads * head), w(1, head), rstd(t, heads, 1), dw(1, head) {
        x.fill_random(generator), dy.fill_random(generator), w.fill_random(generator), dw.fill_random(generator);
    }
    [[nodiscard]] auto forward() {
        return normed_heads{matrix_view<const X>(x.view()), static_cast<const W*>(w.view().data), y.view(), rstd.view()};
    }
    [[nodiscard]] auto backward(matrix_view<X> to) {
        return normed_heads_gradient{matrix_view<const X>(dy.view()), matrix_view<const X>(x.view()), static_cast<const W*>(w.view().data),
                                     matrix_view<const S>(rstd.view()), to, dw.view().data};
    }
    [[nodiscard]] bool intact() { return x.intact() && y.intact() && dy.intact() && dx.intact() && w.intact() && rstd.intact() && dw.intact(); }
};

/// Queries and keys of a batch, and the angles of its tokens.
template <class X, class W = X>
struct problem {
    using S = compute_t<X>;
    index head;
    one_kind<X, W> queries, keys;
    matrix<S> cosines, sines;

    problem(index t, index query_heads, index key_heads, index head_, std::mt19937& generator)
        : head(head_), queries(t, query_heads, head, generator), keys(t, key_heads, head, generator), cosines(t, head / 2), sines(t, head / 2, 1) {
        const std::vector<piece> pieces{{.document = 3, .position = static_cast<index>(generator() % 1000), .begin = 0}};
        host::rotary_table(piece_table{pieces, t}, head, 10000.0, cosines.view(), sines.view());
    }
    [[nodiscard]] matrix_view<const S> c() { return cosines.view(); }
    [[nodiscard]] matrix_view<const S> s() { return sines.view(); }
    void forward() { host::head_norm_rotary(queries.forward(), keys.forward(), head, epsilon, c(), s()); }
    void backward() { host::head_norm_rotary_backward(queries.backward(queries.dx.view()), keys.backward(keys.dx.view()), head, c(), s()); }
};

/// Both passes of one kind from the definition, in double; `error` takes what came.
template <class X, class W>
void against_definition(problem<X, W>& p, one_kind<X, W>& of, const std::vector<double>& dw_before, test::rounding_rule<X>& y_error,
                        test::rounding_rule<X>& dx_error, double sums) {
    const index head = p.head, half = head / 2;
    std::vector<double> dw = dw_before, dw_size(dw.size(), 1.0);
    for (index t = 0; t < of.x.view().rows; ++t) {
        for (index h = 0; h < of.x.view().columns / head; ++h) {
            const auto x = [&](index i) { return of.x.value(t, h * head + i); };
            double square = 0, along = 0;
            for (index i = 0; i < head; ++i) square += x(i) * x(i) / static_cast<double>(head);
            const double r = 1 / std::sqrt(square + epsilon);
            CHECK(std::abs(static_cast<double>(of.rstd(t, h)) - r) <= sums * r);
            std::vector<double> turned(static_cast<std::size_t>(head));
            for (index i = 0; i < half; ++i) {
                const double c = p.cosines.value(t, i), s = p.sines.value(t, i);
                const double a = x(i) * r * of.w.value(0, i), b = x(i + half) * r * of.w.value(0, i + half);
                y_error.add(of.y.value(t, h * head + i), a * c - b * s);
                y_error.add(of.y.value(t, h * head + i + half), b * c + a * s);
                const double up = of.dy.value(t, h * head + i), down = of.dy.value(t, h * head + i + half);
                turned[static_cast<std::size_t>(i)] = up * c + down * s;
                turned[static_cast<std::size_t>(i + half)] = down * c - up * s;
            }
            for (index i = 0; i < head; ++i) {
                const auto at = static_cast<std::size_t>(i);
                along += turned[at] * of.w.value(0, i) * x(i) * r / static_cast<double>(head);
                dw[at] += turned[at] * x(i) * r, dw_size[at] += std::abs(turned[at] * x(i) * r);
            }
            for (index i = 0; i < head; ++i)
                dx_error.add(of.dx.value(t, h * head + i), r * (turned[static_cast<std::size_t>(i)] * of.w.value(0, i) - x(i) * r * along));
        }
    }
    for (index i = 0; i < head; ++i)
        CHECK(std::abs(of.dw.value(0, i) - dw[static_cast<std::size_t>(i)]) <= sums * dw_size[static_cast<std::size_t>(i)]);
}

template <class X, class W = X>
void like_the_definition(index t, index query_heads, index key_heads, index head, unsigned seed, double sums) {
    INFO("[", t, ", (", query_heads, " + ", key_heads, ") x ", head, "]");
    std::mt19937 generator(seed);
    problem<X, W> p(t, query_heads, key_heads, head, generator);
    const auto values = [&](matrix<compute_t<X>>& of) {
        std::vector<double> all;
        for (index i = 0; i < head; ++i) all.push_back(of.value(0, i));
        return all;
    };
    const auto queries_before = values(p.queries.dw), keys_before = values(p.keys.dw);
    p.forward(), p.backward();
    REQUIRE((p.queries.intact() && p.keys.intact()));
    test::rounding_rule<X> y_error, dx_error;
    against_definition(p, p.queries, queries_before, y_error, dx_error, sums);
    against_definition(p, p.keys, keys_before, y_error, dx_error, sums);
    if (t > 0) CHECK(y_error.ratio() <= 1.05);
    if (t > 0) CHECK(dx_error.ratio() <= 1.05);
}

}  // namespace

TEST_CASE("head_norm_rotary: both passes against the definition") {
    unsigned seed = 0;
    for (const index head : {2, 8, 24, 34, 64, 128}) {
        for (const index t : {0, 1, 16, 17, 35}) {
            like_the_definition<bf16>(t, 3, 1, head, ++seed, 2e-5);
            like_the_definition<fp16, float>(t, 2, 2, head, ++seed, 2e-5);
        }
    }
    like_the_definition<bf16>(16 * 64 + 5, 1, 1, 12, ++seed, 2e-5);  // more rows than panels
}

TEST_CASE("head_norm_rotary: without a rounding between them, the bits of the two steps; with one, nearer than they are") {
    const auto two_steps = [](auto tag, index t, index head, unsigned seed) {
        using X = decltype(tag);
        using S = compute_t<X>;
        std::mt19937 generator(seed);
        problem<X> p(t, 3, 2, head, generator);
        matrix<X> y(t, 3 * head);
        std::vector<S> rstd(static_cast<std::size_t>(3 * t));
        p.forward();
        host::head_norm(p.queries.x.view(), p.queries.w.view().data, head, epsilon, y.view(), rstd.data());
        host::rotary(y.view(), head, p.c(), p.s(), y.view(), host::direction::forward);
        double ours = 0, theirs = 0, apart = 0;
        for (index i = 0; i < t; ++i) {
            for (index h = 0; h < 3; ++h) CHECK(rstd[static_cast<std::size_t>(i * 3 + h)] == p.queries.rstd(i, h));
            for (index j = 0; j < 3 * head; ++j) {
                const index at = j % (head / 2), low = j / head * head + at;
                const auto normed = [&](index c) {
                    return p.queries.x.value(i, c) * static_cast<double>(rstd[static_cast<std::size_t>(i * 3 + j / head)]) * p.queries.w.value(0, c % head);
                };
                const double a = normed(low), b = normed(low + head / 2), c = p.cosines.value(i, at), s = p.sines.value(i, at);
                const double exact = j % head < head / 2 ? a * c - b * s : b * c + a * s;
                ours += std::pow(p.queries.y.value(i, j) - exact, 2), theirs += std::pow(y.value(i, j) - exact, 2);
                apart += std::abs(p.queries.y.value(i, j) - y.value(i, j));
            }
        }
        if (sizeof(X) >= sizeof(float)) CHECK(apart == 0);
        else CHECK(ours < 0.8 * theirs);
    };
    for (const index head : {4, 24, 64, 128}) {
        two_steps(float{}, 19, head, 1), two_steps(double{}, 19, head, 2);
        two_steps(bf16{}, 65, head, 3), two_steps(fp16{}, 65, head, 4);
    }
}

TEST_CASE("head_norm_rotary: gradients are central differences in double, in place too") {
    std::mt19937 generator(7);
    for (int i = 0; i < 12; ++i) {
        const index t = 1 + static_cast<index>(generator() % 20), head = 2 * (1 + static_cast<index>(generator() % 20));
        problem<double> p(t, 1 + static_cast<index>(generator() % 3), 2, head, generator);
        for (index c = 0; c < head; ++c) p.queries.dw(0, c) = p.keys.dw(0, c) = 0;
        p.forward(), p.backward();
        const auto loss = [&] {
            p.forward();
            return test::dot(p.queries.y, p.queries.dy) + test::dot(p.keys.y, p.keys.dy);
        };
        for (auto* of : {&p.queries, &p.keys}) {
            test::check_gradient("dx", of->x, of->dx, generator, loss);
            test::check_gradient("dw", of->w, of->dw, generator, loss);
        }
        auto apart = p.keys.dx;
        host::head_norm_rotary_backward(p.queries.backward(p.queries.dx.view()), p.keys.backward(p.keys.dy.view()), head, p.c(), p.s());
        for (index r = 0; r < t; ++r)
            for (index c = 0; c < 2 * head; ++c) CHECK(p.keys.dy(r, c) == apart.view()(r, c));
    }
}

TEST_CASE("head_norm_rotary: 1, 2 and 3 threads are the same bits, and no neighbours are touched") {
    const test::threads_restored restore;
    const auto made = [](int threads) {
        test::use_threads(threads);
        std::mt19937 generator(9);
        problem<float> p(53, 4, 2, 48, generator);
        p.forward(), p.backward();
        REQUIRE((p.queries.intact() && p.keys.intact()));
        return p;
    };
    auto expected = made(1);
    for (const int threads : {2, 3}) {
        auto got = made(threads);
        for (const auto& [a, b] : {std::pair(&expected.queries, &got.queries), std::pair(&expected.keys, &got.keys)})
            CHECK((a->y.same_bits(b->y) && a->rstd.same_bits(b->rstd) && a->dx.same_bits(b->dx) && a->dw.same_bits(b->dw)));
    }
}

TEST_CASE("head_norm_rotary: what does not fit is refused with what came") {
    std::mt19937 generator(1);
    problem<float> p(4, 2, 1, 8, generator);
    matrix<float> narrow(4, 3), few(4, 1);
    CHECK_THROWS_WITH_AS(host::head_norm_rotary(p.queries.forward(), p.keys.forward(), 6, epsilon, p.c(), p.s()),
                         "head_norm_rotary: expected whole heads, got 16 columns and heads of 6", bad_argument);
    CHECK_THROWS_WITH_AS(host::head_norm_rotary(p.queries.forward(), p.keys.forward(), 4, epsilon, p.c(), p.s()),
                         "head_norm_rotary: expected 2 · cosines.columns and head to be equal, got 8 and 4", bad_argument);
    CHECK_THROWS_AS(host::head_norm_rotary(p.queries.forward(), p.keys.forward(), 8, epsilon, p.c(), matrix_view<const float>(narrow.view())), bad_argument);
    auto lacking = p.queries.forward();
    lacking.rstd = few.view();
    CHECK_THROWS_WITH_AS(host::head_norm_rotary(lacking, p.keys.forward(), 8, epsilon, p.c(), p.s()),
                         "head_norm_rotary: expected rstd.columns and heads to be equal, got 1 and 2", bad_argument);
    CHECK_THROWS_AS(host::head_norm_rotary_backward(p.queries.backward(p.keys.dx.view()), p.keys.backward(p.keys.dx.view()), 8, p.c(), p.s()), bad_argument);
}

}  // namespace longspan
