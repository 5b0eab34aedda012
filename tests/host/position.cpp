// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include <longspan/host/position.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using test::matrix;

namespace {

/// Documents of random lengths (0 and 1 among them) that fill `tokens`, some from a later position on.
struct layout {
    std::vector<piece> pieces;
    index tokens;

    layout(std::mt19937& generator, index tokens_, index longest, index context) : tokens(tokens_) {
        for (index begin = 0, document = 0; begin < tokens || document == 0; ++document) {
            const index length = std::min(static_cast<index>(generator() % static_cast<unsigned>(longest + 1)), tokens - begin);
            const index room = context - length;
            pieces.push_back({document, generator() % 3 == 0 ? static_cast<index>(generator()) % (room + 1) : 0, begin});
            begin += length;
        }
    }
    [[nodiscard]] piece_table table() const { return {pieces, tokens}; }
    [[nodiscard]] index position(index t) const {
        std::size_t i = 0;
        while (i + 1 < pieces.size() && pieces[i + 1].begin <= t) ++i;
        return pieces[i].position + t - pieces[i].begin;
    }
};

template <class W, class X, class DW>
void learned_against_definition(index t, index c, index longest, unsigned seed) {
    INFO("[", t, ", ", c, "], pieces up to ", longest);
    std::mt19937 generator(seed);
    const index context = longest + 7;
    const layout of(generator, t, longest, context);
    matrix<W> table(context, c);
    matrix<X> x(t, c), dx(t, c, 0);
    matrix<DW> dtable(context, c);
    table.fill_random(generator), x.fill_random(generator), dx.fill_random(generator), dtable.fill_random(generator);
    auto x_before = x;
    auto dtable_before = dtable;
    host::add_learned_positions(of.table(), table.view(), x.view());
    host::learned_positions_backward(of.table(), dx.view(), dtable.view());
    REQUIRE((table.intact() && x.intact() && dx.intact() && dtable.intact()));
    std::vector<double> want, size;
    for (index p = 0; p < context; ++p)
        for (index k = 0; k < c; ++k) want.push_back(dtable_before.value(p, k)), size.push_back(std::abs(want.back()));
    for (index i = 0; i < t; ++i) {
        for (index k = 0; k < c; ++k) {
            const index p = of.position(i);
            REQUIRE(to_compute(x(i, k)) == to_compute(from_compute<X>(to_compute(x_before(i, k)) + to_compute(table(p, k)))));
            want[static_cast<std::size_t>(p * c + k)] += dx.value(i, k);
            size[static_cast<std::size_t>(p * c + k)] += std::abs(dx.value(i, k));
        }
    }
    for (index p = 0; p < context; ++p)
        for (index k = 0; k < c; ++k)
            REQUIRE(std::abs(dtable.value(p, k) - want[static_cast<std::size_t>(p * c + k)]) <=
                    static_cast<double>(of.pieces.size()) * format<DW>::epsilon * size[static_cast<std::size_t>(p * c + k)]);
}

template <class T>
void clear(matrix<T>& m) {
    for (index r = 0; r < m.view().rows; ++r)
        for (index c = 0; c < m.view().columns; ++c) m(r, c) = from_compute<T>(0);
}

constexpr index widths[] = {1, 2, 3, 7, 8, 9, 15, 16, 17, 31, 33, 35, 127, 128, 129, 131};
constexpr index rows[] = {0, 1, 2, 15, 63, 64, 65, 67, 128, 131, 200};

}  // namespace

TEST_CASE("position: learned rows are added and their gradients summed, in every format") {
    std::mt19937 generator(1);
    for (unsigned i = 0; i < 50; ++i) {
        const index t = rows[generator() % std::size(rows)], c = widths[generator() % std::size(widths)];
        const index longest = 1 + static_cast<index>(generator() % 150);
        learned_against_definition<float, float, float>(t, c, longest, i);
        learned_against_definition<double, double, double>(t, c, longest, i);
        learned_against_definition<bf16, bf16, float>(t, c, longest, i);
        learned_against_definition<fp16, float, float>(t, c, longest, i);
    }
}

TEST_CASE("position: gradients of learned rows are central differences in double") {
    std::mt19937 generator(2);
    for (int i = 0; i < 210; ++i) {
        const index t = 1 + static_cast<index>(generator() % 60), c = 1 + static_cast<index>(generator() % 20);
        const layout of(generator, t, 1 + static_cast<index>(generator() % 30), 40);
        matrix<double> table(40, c), dx(t, c), dtable(40, c), zero(t, c);
        table.fill_random(generator), dx.fill_random(generator), clear(dtable), clear(zero);
        host::learned_positions_backward(of.table(), dx.view(), dtable.view());
        test::check_gradient("dtable", table, dtable, generator, [&] {
            matrix<double> x = zero;
            host::add_learned_positions(of.table(), table.view(), x.view());
            return test::dot(x, dx);
        });
    }
}

TEST_CASE("position: padding may be longer than the learned table, and wraps") {
    const std::vector<piece> pieces{{.document = 3, .position = 0, .begin = 0}, {.document = -1, .position = 0, .begin = 5}};
    matrix<float> table(6, 3), x(200, 3), dx(200, 3), dtable(6, 3);
    std::mt19937 generator(4);
    table.fill_random(generator), clear(x);
    for (index t = 0; t < 200; ++t)
        for (index c = 0; c < 3; ++c) dx(t, c) = 1;
    clear(dtable);
    host::add_learned_positions({pieces, 200}, table.view(), x.view());
    host::learned_positions_backward({pieces, 200}, dx.view(), dtable.view());
    float total[6] = {};
    for (index t = 0; t < 200; ++t) {
        const index p = t < 5 ? t : (t - 5) % 6;
        total[p] += 1;
        REQUIRE(x(t, 1) == table(p, 1));
    }
    for (index p = 0; p < 6; ++p) CHECK(dtable(p, 2) == total[p]);
}

TEST_CASE("position: sinusoidal waves are right to the last bit but one, at any position") {
    std::mt19937 generator(5);
    for (const index c : {1, 2, 3, 7, 15, 16, 17, 18, 31, 32, 33, 64, 131}) {
        const layout of(generator, 67, 30, 40);
        auto far = of;
        for (piece& p : far.pieces) p.position += 4000000;
        for (const layout& at : {of, far}) {
            matrix<double> x(67, c);
            matrix<float> y(67, c);
            clear(x), clear(y);
            host::add_sinusoidal_positions(at.table(), x.view());
            host::add_sinusoidal_positions(at.table(), y.view());
            REQUIRE((x.intact() && y.intact()));
            for (index t = 0; t < 67; ++t) {
                for (index k = 0; k < c; ++k) {
                    const long double angle = static_cast<long double>(at.position(t)) *
                                              std::pow(10000.0L, -static_cast<long double>(k - k % 2) / static_cast<long double>(c));
                    const long double want = k % 2 == 0 ? std::sin(angle) : std::cos(angle);
                    REQUIRE(std::abs(x(t, k) - static_cast<double>(want)) < 1e-12);  // what the long double's angle is good for
                    REQUIRE(std::abs(y.value(t, k) - static_cast<double>(want)) <= 0.5001 * 0x1p-24 + 1e-12);
                }
            }
        }
    }
}

TEST_CASE("position: sinusoidal waves end at the last column") {
    const std::vector<piece> pieces{{.document = 0, .position = 9, .begin = 0}};
    for (const index c : {1, 2, 15, 16, 17, 33}) {
        matrix<float> x(5, c + 1);  // a neighbour that is no NaN, which no sum would change
        for (index t = 0; t < 5; ++t) x(t, c) = 2;
        host::add_sinusoidal_positions({pieces, 5}, x.view().column_range(0, c));
        for (index t = 0; t < 5; ++t) CHECK(x(t, c) == 2);
    }
}

TEST_CASE("position: sinusoidal waves are added in the stream's arithmetic and rounded once") {
    std::mt19937 generator(6);
    const layout of(generator, 70, 20, 20);
    matrix<float> wave(70, 37), x(70, 37);
    matrix<bf16> y(70, 37);
    clear(wave), y.fill_random(generator);
    auto before = y;
    host::add_sinusoidal_positions(of.table(), wave.view());
    host::add_sinusoidal_positions(of.table(), y.view());
    for (index t = 0; t < 70; ++t)
        for (index c = 0; c < 37; ++c) REQUIRE(y(t, c).bits == bf16(static_cast<float>(before(t, c)) + wave(t, c)).bits);
}

TEST_CASE("position: a document gets the same bits wherever it lies, from any number of threads") {
    const test::threads_restored restore;
    std::mt19937 generator(7);
    const index c = 75, n = 90;
    const std::vector<piece> alone{{.document = 5, .position = 11, .begin = 0}},
        packed{{.document = 1, .position = 3, .begin = 0}, {.document = 5, .position = 11, .begin = 101}, {.document = 6, .position = 0, .begin = 191}};
    matrix<float> table(200, c), x(n, c), y(200, c), dx(200, c);
    table.fill_random(generator), x.fill_random(generator), y.fill_random(generator), dx.fill_random(generator);
    for (index t = 0; t < n; ++t)
        for (index k = 0; k < c; ++k) y(101 + t, k) = x(t, k);
    const auto y_before = y;
    test::use_threads(1);
    host::add_learned_positions({alone, n}, table.view(), x.view());
    host::add_sinusoidal_positions({alone, n}, x.view());
    matrix<float> expected(200, c);
    expected.fill_random(generator);
    const auto start = expected;
    host::learned_positions_backward({packed, 200}, dx.view(), expected.view());
    for (const int threads : {1, 2, 3}) {
        test::use_threads(threads);
        y = y_before;
        host::add_learned_positions({packed, 200}, table.view(), y.view());
        host::add_sinusoidal_positions({packed, 200}, y.view());
        for (index t = 0; t < n; ++t)
            for (index k = 0; k < c; ++k) REQUIRE(y(101 + t, k) == x(t, k));
        auto dtable = start;
        host::learned_positions_backward({packed, 200}, dx.view(), dtable.view());
        CHECK(dtable.same_bits(expected));
    }
}

TEST_CASE("position: what does not fit is refused with what came") {
    matrix<float> table(8, 4), x(10, 4), narrow(10, 3);
    const std::vector<piece> longer{{.document = 0, .position = 0, .begin = 0}}, later{{.document = 0, .position = 7, .begin = 0}, {.document = 1, .position = 0, .begin = 2}},
        good{{.document = 0, .position = 0, .begin = 0}, {.document = 1, .position = 0, .begin = 5}},
        before{{.document = 0, .position = -1, .begin = 0}, {.document = 1, .position = 0, .begin = 5}};
    const char* sentence = "add_learned_positions: piece 0 holds positions 0 to 9, and the table has 8 rows";
    CHECK_THROWS_WITH_AS(host::add_learned_positions({longer, 10}, table.view(), x.view()), sentence, bad_argument);
    CHECK_THROWS_AS(host::add_learned_positions({later, 10}, table.view(), x.view()), bad_argument);
    CHECK_THROWS_AS(host::add_learned_positions({before, 10}, table.view(), x.view()), bad_argument);
    CHECK_THROWS_AS(host::add_learned_positions({good, 10}, table.view(), narrow.view()), bad_argument);
    CHECK_THROWS_AS(host::add_learned_positions({good, 9}, table.view(), x.view()), bad_argument);
    CHECK_THROWS_AS(host::learned_positions_backward({longer, 10}, x.view(), table.view()), bad_argument);
    CHECK_THROWS_AS(host::learned_positions_backward({good, 10}, narrow.view(), table.view()), bad_argument);
    CHECK_THROWS_AS(host::learned_positions_backward({{}, 10}, x.view(), table.view()), bad_argument);
    CHECK_THROWS_WITH_AS(host::add_sinusoidal_positions({good, 11}, x.view()),
                         "add_sinusoidal_positions: expected pieces that cover the 10 rows, got 2 pieces of 11 tokens", bad_argument);
}

}  // namespace longspan
