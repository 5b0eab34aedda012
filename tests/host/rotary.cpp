// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include <longspan/host/rotary.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using host::direction;
using test::matrix;

namespace {

/// One document of `tokens` from `position` on.
struct one_piece {
    std::vector<piece> pieces;
    index tokens;
    one_piece(index position, index tokens_) : pieces{{.document = 1, .position = position, .begin = 0}}, tokens(tokens_) {}
    [[nodiscard]] piece_table table() const { return {pieces, tokens}; }
};

/// The table of a batch, behind guards.
template <class S>
struct angles {
    matrix<S> cosines, sines;
    angles(const piece_table& pieces, index head, double base = 10000, index gap = 3)
        : cosines(pieces.tokens, head / 2, gap), sines(pieces.tokens, head / 2, gap) {
        host::rotary_table(pieces, head, base, cosines.view(), sines.view());
        REQUIRE((cosines.intact() && sines.intact()));
    }
    [[nodiscard]] matrix_view<const S> c() { return cosines.view(); }
    [[nodiscard]] matrix_view<const S> s() { return sines.view(); }
};

template <class X, class Y>
void against_definition(index t, index heads, index head, direction turn, unsigned seed) {
    INFO("[", t, ", ", heads, " x ", head, "]");
    using S = compute_t<X>;
    std::mt19937 generator(seed);
    const one_piece of(static_cast<index>(generator() % 1000), t);
    angles<S> table(of.table(), head);
    matrix<X> x(t, heads * head);
    matrix<Y> y(t, heads * head, 5);
    x.fill_random(generator);
    auto before = x;
    host::rotary(x.view(), head, table.c(), table.s(), y.view(), turn);
    REQUIRE((x.same_bits(before) && y.intact()));
    for (index i = 0; i < t; ++i) {
        for (index h = 0; h < heads; ++h) {
            for (index j = 0; j < head / 2; ++j) {
                const index a = h * head + j, b = a + head / 2;
                const double c = table.cosines.value(i, j), s = table.sines.value(i, j) * (turn == direction::forward ? 1 : -1);
                const double p = x.value(i, a), q = x.value(i, b);
                const double bound = 1.01 * format<Y>::epsilon / 2 + 2 * format<S>::epsilon, least = std::is_same_v<Y, fp16> ? 0x1p-24 : 0;
                REQUIRE(std::abs(y.value(i, a) - (p * c - q * s)) <= bound * (std::abs(p * c) + std::abs(q * s)) + least);
                REQUIRE(std::abs(y.value(i, b) - (q * c + p * s)) <= bound * (std::abs(q * c) + std::abs(p * s)) + least);
            }
        }
    }
    // In place.
    if constexpr (std::is_same_v<X, Y>) {
        host::rotary(x.view(), head, table.c(), table.s(), x.view(), turn);
        REQUIRE(x.intact());
        for (index i = 0; i < t; ++i)
            for (index k = 0; k < heads * head; ++k) REQUIRE(to_compute(x(i, k)) == to_compute(y(i, k)));
    }
}

constexpr index heads_of[] = {2, 4, 6, 14, 16, 18, 30, 32, 34, 64, 80, 128};
constexpr index rows[] = {0, 1, 3, 4, 5, 15, 16, 17, 35, 63, 64, 65, 67};

}  // namespace

TEST_CASE("rotary_table: right to the last bit at position 4,000,000 and beyond") {
    // From 400 bits of arithmetic (mpmath). The three at 3,9xx,xxx are where a cosine comes nearest to 0.
    struct known {
        index position, j, head;
        double base, cosine, sine;
    };
    const known list[] = {
        {0, 5, 64, 10000, 1.0, 0.0},
        {1, 0, 64, 10000, 0.5403023058681397174, 0.8414709848078965067},
        {1, 31, 64, 10000, 0.999999991108602963, 0.000133352142821103452},
        {63, 7, 64, 10000, -0.5203010083114777147, 0.8539829393788025775},
        {64, 7, 64, 10000, -0.6292248933956890109, 0.7772232842183665561},
        {65537, 3, 64, 10000, -0.9911457637165238209, -0.132778292905085702},
        {131071, 17, 128, 500000, 0.9421271477918527473, 0.3352557790606874102},
        {1000000, 1, 128, 10000, -0.9998661568057510418, -0.01636057683876915549},
        {3900052, 1, 64, 10000, -0.00005578512872084497984, -0.9999999984440097056},
        {3912440, 1, 64, 10000, 0.00006723968451662619833, 0.9999999977394124105},
        {3924828, 1, 64, 10000, -0.00007869424030358510969, -0.9999999969036082667},
        {3999999, 1, 64, 10000, -0.6446364748856885457, 0.7644892512304885513},
        {4000000, 0, 64, 10000, 0.1400774727302601566, -0.990140546404147224},
        {4000000, 1, 64, 10000, -0.992766142298542082, 0.1200640941567082076},
        {4000000, 13, 64, 10000, -0.6665414680053065327, -0.7454679546629291079},
        {4000000, 31, 64, 10000, 0.788654839718487185, -0.6148361926469580304},
        {4000000, 1, 128, 10000, 0.9978592253753197597, 0.06539851935148689418},
        {4000000, 40, 128, 500000, -0.8381757179490940013, -0.5454002803817768666},
        {4000000, 63, 128, 500000, -0.922694127024151536, -0.3855328104780952494},
        {4000000, 2, 80, 10000, 0.8793660798850920946, -0.4761462984708857618},
        {4000000, 11, 24, 1e6, 0.9965789963484589636, 0.08264565346767012963},
        {16777215, 1, 128, 10000, 0.05040170182896366294, -0.9987290265396036045},
        {16777215, 0, 128, 10000, -0.3175764597323970797, -0.9482326677687481866},
        {16777215, 63, 128, 10000, -0.5734350010956073845, 0.8192510601265528773},
        {16777215, 3, 256, 1e8, -0.3023691122038808998, -0.9531909147621146324},
    };
    for (const known& k : list) {
        INFO("position ", k.position, ", j ", k.j, " of ", k.head / 2, ", base ", k.base);
        const one_piece of(k.position, 1);
        angles<double> wide(of.table(), k.head, k.base);
        angles<float> narrow(of.table(), k.head, k.base);
        CHECK(std::abs(wide.cosines(0, k.j) - k.cosine) <= 3e-16);
        CHECK(std::abs(wide.sines(0, k.j) - k.sine) <= 3e-16);
        CHECK(narrow.cosines(0, k.j) == static_cast<float>(k.cosine));
        CHECK(narrow.sines(0, k.j) == static_cast<float>(k.sine));
    }
}

TEST_CASE("rotary_table: every angle of a long document, against long double") {
    for (const index head : {2, 6, 16, 18, 128}) {
        for (const index from : {0, 3999930}) {
            const one_piece of(from, 70);
            angles<float> table(of.table(), head);
            for (index t = 0; t < 70; ++t) {
                for (index j = 0; j < head / 2; ++j) {
                    const long double angle = static_cast<long double>(from + t) *
                                              std::pow(10000.0L, -2 * static_cast<long double>(j) / static_cast<long double>(head));
                    for (const auto& [got, want] : {std::pair(table.cosines(t, j), std::cos(angle)), std::pair(table.sines(t, j), std::sin(angle))}) {
                        int exponent = 0;
                        (void)std::frexp(static_cast<double>(want), &exponent);
                        // Half a unit, and what the long double's angle lacks.
                        REQUIRE(std::abs(static_cast<double>(got - want)) <= 0.50001 * std::ldexp(1.0, exponent - 24) + 2e-12);
                    }
                }
            }
        }
    }
}

TEST_CASE("rotary_table: an angle depends on the position alone, not on batch, threads or place") {
    const test::threads_restored restore;
    const index head = 36, n = 150;
    test::use_threads(1);
    const one_piece document(1000, n);
    angles<float> alone(document.table(), head);
    const std::vector<piece> pieces{{.document = 4, .position = 0, .begin = 0},    {.document = 7, .position = 0, .begin = 33},
                                    {.document = 1, .position = 1000, .begin = 33}, {.document = 2, .position = 5, .begin = 183},
                                    {.document = 3, .position = 9, .begin = 184},   {.document = -1, .position = 0, .begin = 184}};
    for (const int threads : {1, 2, 3}) {
        test::use_threads(threads);
        angles<float> packed({pieces, 211}, head, 10000, 5);
        for (index t = 0; t < n; ++t)
            for (index j = 0; j < head / 2; ++j)
                REQUIRE((packed.cosines(33 + t, j) == alone.cosines(t, j) && packed.sines(33 + t, j) == alone.sines(t, j)));
        CHECK(packed.cosines(0, 3) == 1.0f);
        CHECK(packed.sines(184, 3) == 0.0f);
    }
}

TEST_CASE("rotary: turns pairs forward and back, in every format, out of place and in place") {
    std::mt19937 generator(1);
    for (unsigned i = 0; i < 60; ++i) {
        const index t = rows[generator() % std::size(rows)], heads = 1 + static_cast<index>(generator() % 4),
                    head = heads_of[generator() % std::size(heads_of)];
        const direction turn{i % 2 == 0};
        against_definition<float, float>(t, heads, head, turn, i);
        against_definition<double, double>(t, heads, head, turn, i);
        against_definition<bf16, bf16>(t, heads, head, turn, i);
        against_definition<fp16, fp16>(t, heads, head, turn, i);
        against_definition<bf16, float>(t, heads, head, turn, i);
    }
}

TEST_CASE("rotary: gradients are central differences in double, and the way back undoes the way there") {
    std::mt19937 generator(2);
    for (int i = 0; i < 210; ++i) {
        const index t = 1 + static_cast<index>(generator() % 20), heads = 1 + static_cast<index>(generator() % 3),
                    head = heads_of[generator() % 8];
        const one_piece of(static_cast<index>(generator() % 5000), t);
        angles<double> table(of.table(), head);
        matrix<double> x(t, heads * head), dy(t, heads * head), dx(t, heads * head), back(t, heads * head);
        x.fill_random(generator), dy.fill_random(generator);
        host::rotary(dy.view(), head, table.c(), table.s(), dx.view(), direction::backward);
        test::check_gradient("dx", x, dx, generator, [&] {
            matrix<double> y(t, heads * head);
            host::rotary(x.view(), head, table.c(), table.s(), y.view(), direction::forward);
            return test::dot(y, dy);
        });
        host::rotary(dx.view(), head, table.c(), table.s(), back.view(), direction::forward);
        for (index r = 0; r < t; ++r)
            for (index k = 0; k < heads * head; ++k) REQUIRE(std::abs(back(r, k) - dy(r, k)) <= 1e-14 * (1 + std::abs(dy(r, k)) * 4));
    }
}

TEST_CASE("rotary: a score depends on the distance alone, at any position") {
    const index head = 64;
    std::mt19937 generator(3);
    matrix<double> q(1, head), k(1, head);
    q.fill_random(generator), k.fill_random(generator);
    const auto score = [&](index query, index key) {
        angles<double> at_query(one_piece(query, 1).table(), head), at_key(one_piece(key, 1).table(), head);
        matrix<double> a(1, head), b(1, head);
        host::rotary(q.view(), head, at_query.c(), at_query.s(), a.view(), direction::forward);
        host::rotary(k.view(), head, at_key.c(), at_key.s(), b.view(), direction::forward);
        return test::dot(a, b);
    };
    for (const index far : {0, 1, 63, 64, 1000, 70000})
        for (const index from : {1, 4095, 3900000}) CHECK(std::abs(score(from + far, from) - score(far, 0)) < 1e-13);
}

TEST_CASE("rotary: narrow formats lose no more than their one rounding") {
    const auto rule = [](auto tag) {
        using F = decltype(tag);
        const index t = 60, head = 64;
        std::mt19937 generator(4);
        angles<float> table(one_piece(100, t).table(), head);
        angles<double> exact(one_piece(100, t).table(), head);
        matrix<F> x(t, head), y(t, head);
        x.fill_random(generator);
        host::rotary(x.view(), head, table.c(), table.s(), y.view(), direction::forward);
        test::rounding_rule<F> error;
        for (index i = 0; i < t; ++i) {
            for (index j = 0; j < 32; ++j) {
                const double c = exact.cosines(i, j), s = exact.sines(i, j);
                error.add(y.value(i, j), x.value(i, j) * c - x.value(i, j + 32) * s);
                error.add(y.value(i, j + 32), x.value(i, j + 32) * c + x.value(i, j) * s);
            }
        }
        CHECK(error.ratio() <= 1.05);
    };
    rule(bf16{});
    rule(fp16{});
}

TEST_CASE("rotary: 1, 2 and 3 threads are the same bits") {
    const test::threads_restored restore;
    const index t = 77, head = 34;
    std::mt19937 generator(5);
    angles<float> table(one_piece(3, t).table(), head);
    matrix<float> x(t, 3 * head), expected(t, 3 * head);
    x.fill_random(generator);
    test::use_threads(1);
    host::rotary(x.view(), head, table.c(), table.s(), expected.view(), direction::forward);
    for (const int threads : {1, 2, 3}) {
        test::use_threads(threads);
        matrix<float> y(t, 3 * head);
        host::rotary(x.view(), head, table.c(), table.s(), y.view(), direction::forward);
        CHECK(y.same_bits(expected));
    }
}

TEST_CASE("rotary: what does not fit is refused with what came") {
    const one_piece of(0, 4);
    angles<float> table(of.table(), 8);
    matrix<float> x(4, 16), y(4, 8), tall(5, 16), c(4, 4), s(4, 3);
    const auto turn = direction::forward;
    CHECK_THROWS_AS(host::rotary(x.view(), 8, table.c(), table.s(), y.view(), turn), bad_argument);
    CHECK_THROWS_WITH_AS(host::rotary(x.view(), 6, table.c(), table.s(), x.view(), turn),
                         "rotary: expected whole heads, got 16 columns and heads of 6", bad_argument);
    CHECK_THROWS_WITH_AS(host::rotary(x.view(), 4, table.c(), table.s(), x.view(), turn),
                         "rotary: expected 2 · cosines.columns and head to be equal, got 8 and 4", bad_argument);
    CHECK_THROWS_AS(host::rotary(tall.view(), 8, table.c(), table.s(), tall.view(), turn), bad_argument);
    CHECK_THROWS_AS(host::rotary(x.view(), 8, table.c(), matrix_view<const float>(s.view()), x.view(), turn), bad_argument);
    CHECK_THROWS_WITH_AS(host::rotary_table(of.table(), 7, 10000, c.view(), c.view()),
                         "rotary_table: expected 2 · cosines.columns and head to be equal, got 8 and 7", bad_argument);
    CHECK_THROWS_AS(host::rotary_table(of.table(), 8, 10000, c.view(), s.view()), bad_argument);
    CHECK_THROWS_AS(host::rotary_table({of.pieces, 5}, 8, 10000, c.view(), c.view()), bad_argument);
    CHECK_THROWS_AS(host::rotary_table(of.table(), 8, 0, c.view(), c.view()), bad_argument);
}

}  // namespace longspan
