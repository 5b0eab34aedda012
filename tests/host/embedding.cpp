// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cstdint>
#include <initializer_list>
#include <random>
#include <string>
#include <vector>

#include <longspan/host/embedding.hpp>

#include "buffers.hpp"
#include "central_differences.hpp"

namespace longspan {

using test::matrix;

namespace {

using ids = std::vector<std::int32_t>;

/// Frequent ids and rare ones, as in text.
ids draw_ids(std::mt19937& generator, index tokens, index vocabulary) {
    ids drawn(static_cast<std::size_t>(tokens));
    std::exponential_distribution<double> skewed(4.0 / static_cast<double>(vocabulary));
    for (auto& id : drawn) id = static_cast<std::int32_t>(std::min(vocabulary - 1, static_cast<index>(skewed(generator))));
    return drawn;
}

ids sorted_by_id(const ids& tokens) {
    ids order(tokens.size());
    for (std::size_t i = 0; i < order.size(); ++i) order[i] = static_cast<std::int32_t>(i);
    std::sort(order.begin(), order.end(), [&](std::int32_t a, std::int32_t b) {
        const std::int32_t id_a = tokens[static_cast<std::size_t>(a)], id_b = tokens[static_cast<std::size_t>(b)];
        return id_a != id_b ? id_a < id_b : a < b;
    });
    return order;
}

template <class W, class X, class DW>
void against_definition(index t, index c, index v, unsigned seed) {
    INFO("[", t, ", ", c, "], vocabulary ", v);
    std::mt19937 generator(seed);
    const ids tokens = draw_ids(generator, t, v), order = sorted_by_id(tokens);
    matrix<W> table(v, c);
    matrix<X> x(t, c, 5), dx(t, c);
    matrix<DW> dtable(v, c, 1);
    table.fill_random(generator), dx.fill_random(generator), dtable.fill_random(generator);
    auto before = dtable;
    host::embed(tokens.data(), table.view(), x.view());
    host::embedding_backward(dx.view(), tokens.data(), order.data(), dtable.view());
    REQUIRE((table.intact() && x.intact() && dx.intact() && dtable.intact()));
    std::vector<double> sums(static_cast<std::size_t>(v * c)), sizes(sums.size());
    for (index i = 0; i < t; ++i) {
        const index id = tokens[static_cast<std::size_t>(i)];
        for (index k = 0; k < c; ++k) {
            REQUIRE(to_compute(x(i, k)) == to_compute(from_compute<X>(to_compute(table(id, k)))));
            sums[static_cast<std::size_t>(id * c + k)] += dx.value(i, k);
            sizes[static_cast<std::size_t>(id * c + k)] += std::abs(dx.value(i, k));
        }
    }
    const double roundings = 2 + static_cast<double>(std::min<index>(t, 128)) + static_cast<double>(t) / 128;
    for (index id = 0; id < v; ++id) {
        for (index k = 0; k < c; ++k) {
            const auto at = static_cast<std::size_t>(id * c + k);
            if (sizes[at] == 0) {
                REQUIRE(dtable(id, k) == before(id, k));
                continue;
            }
            const double want = before.value(id, k) + sums[at], magnitude = std::abs(before.value(id, k)) + sizes[at];
            REQUIRE(std::abs(dtable.value(id, k) - want) <= 0.5 * roundings * format<DW>::epsilon * magnitude);
        }
    }
}

}  // namespace

TEST_CASE("embedding: rows by id and sums by id, in every format") {
    std::mt19937 generator(1);
    // Edges of packs, of a task's columns (128 floats, 64 doubles), of its 512 places, of a block of 128 rows.
    const index widths[] = {0, 1, 7, 8, 9, 15, 16, 17, 63, 64, 65, 127, 128, 129, 131, 259}, rows[] = {0, 1, 2, 63, 64, 65, 127, 128, 129, 259},
                words[] = {1, 2, 3, 17, 256, 1000};
    for (unsigned i = 0; i < 40; ++i) {
        const index t = rows[generator() % std::size(rows)], c = widths[generator() % std::size(widths)], v = words[generator() % std::size(words)];
        against_definition<float, float, float>(t, c, v, i);
        against_definition<double, double, double>(t, c, v, i);
        against_definition<bf16, bf16, float>(t, c, v, i);
        against_definition<fp16, float, float>(t, c, v, i);
    }
    for (const index t : {511, 512, 513, 1025, 1700}) {
        against_definition<float, float, float>(t, 9, 1, 50);  // one id through every task
        against_definition<float, float, float>(t, 130, 3, 51);
        against_definition<double, double, double>(t, 70, 2000, 52);
    }
}

TEST_CASE("embedding: gradients are central differences in double") {
    std::mt19937 generator(2);
    for (int i = 0; i < 220; ++i) {
        const index t = 1 + static_cast<index>(generator() % 40), c = 1 + static_cast<index>(generator() % 20),
                    v = 1 + static_cast<index>(generator() % 9);
        const ids tokens = draw_ids(generator, t, v), order = sorted_by_id(tokens);
        matrix<double> table(v, c), dx(t, c), dtable(v, c);
        table.fill_random(generator), dx.fill_random(generator);
        for (index id = 0; id < v; ++id)
            for (index k = 0; k < c; ++k) dtable(id, k) = 0;
        host::embedding_backward(dx.view(), tokens.data(), order.data(), dtable.view());
        test::check_gradient("dtable", table, dtable, generator, [&] {
            matrix<double> x(t, c);
            host::embed(tokens.data(), table.view(), x.view());
            return test::dot(x, dx);
        });
    }
}

TEST_CASE("embedding: 1, 2 and 3 threads, and twice, are the same bits") {
    const test::threads_restored restore;
    std::mt19937 generator(3);
    for (const index c : {9, 200}) {
        const index t = 1500, v = 40;
        const ids tokens = draw_ids(generator, t, v), order = sorted_by_id(tokens);
        matrix<float> table(v, c), dx(t, c), start(v, c), x(t, c);
        table.fill_random(generator), dx.fill_random(generator), start.fill_random(generator);
        test::use_threads(1);
        matrix<float> expected = start;
        host::embed(tokens.data(), table.view(), x.view());
        host::embedding_backward(dx.view(), tokens.data(), order.data(), expected.view());
        for (const int threads : {1, 2, 3}) {
            test::use_threads(threads);
            matrix<float> dtable = start, y(t, c);
            host::embed(tokens.data(), table.view(), y.view());
            host::embedding_backward(dx.view(), tokens.data(), order.data(), dtable.view());
            CHECK(y.same_bits(x));
            CHECK(dtable.same_bits(expected));
        }
    }
}

TEST_CASE("embedding: what does not fit is refused with what came, before anything is written") {
    matrix<float> table(4, 16), x(3, 16), narrow(4, 15);
    matrix<float> before = x, table_before = table;
    const auto forward = [&](const ids& tokens) { host::embed(tokens.data(), table.view(), x.view()); };
    const auto backward = [&](const ids& tokens, const ids& order) {
        host::embedding_backward(x.view(), tokens.data(), order.data(), table.view());
    };
    CHECK_THROWS_WITH_AS(forward({1, 3, 4}), "embed: token 2 has the id 4, outside the vocabulary [0, 4)", bad_argument);
    CHECK_THROWS_WITH_AS(forward({1, -1, 9}), "embed: token 1 has the id -1, outside the vocabulary [0, 4)", bad_argument);
    CHECK_THROWS_WITH_AS(backward({1, 3, 4}, {0, 1, 2}), "embedding_backward: token 2 has the id 4, outside the vocabulary [0, 4)", bad_argument);
    CHECK_THROWS_WITH_AS(backward({1, 3, 2}, {0, 1, 2}),
                         "embedding_backward: expected token indices sorted by (id, index), got token 2 of id 2 after token 1 of id 3", bad_argument);
    CHECK_THROWS_AS(backward({1, 1, 2}, {1, 0, 2}), bad_argument);
    CHECK_THROWS_AS(backward({1, 1, 1}, {0, 0, 1}), bad_argument);
    CHECK_THROWS_WITH_AS(backward({1, 1, 1}, {0, 1, 3}),
                         "embedding_backward: place 2 of the permutation holds 3, expected the index of one of 3 tokens", bad_argument);
    CHECK_THROWS_AS(backward({1, 1, 1}, {-1, 0, 1}), bad_argument);
    const ids good{0, 1, 2};
    CHECK_THROWS_AS(host::embed(good.data(), narrow.view(), x.view()), bad_argument);
    CHECK_THROWS_AS(host::embedding_backward(x.view(), good.data(), good.data(), narrow.view()), bad_argument);
    CHECK(x.same_bits(before));
    CHECK(table.same_bits(table_before));
}

}  // namespace longspan
