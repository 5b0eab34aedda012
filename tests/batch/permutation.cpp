// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>

#include <longspan/batch/permutation.hpp>
#include <longspan/data/hash.hpp>

namespace ls = longspan;

TEST_CASE("sort_tokens: a permutation by id, then by place") {
    for (const std::size_t count : {0U, 1U, 2U, 63U, 64U, 2051U})
        for (const ls::index vocabulary : {1, 2, 256, 50304}) {
            std::vector<std::int32_t> ids(count), order(count, -1), expected(count);
            for (std::size_t t = 0; t < count; ++t) {
                ids[t] = static_cast<std::int32_t>(ls::mix64(t) % static_cast<std::uint64_t>(vocabulary));
                expected[t] = static_cast<std::int32_t>(t);
            }
            std::sort(expected.begin(), expected.end(), [&](std::int32_t a, std::int32_t b) {
                const std::int32_t id_a = ids[static_cast<std::size_t>(a)], id_b = ids[static_cast<std::size_t>(b)];
                return id_a != id_b ? id_a < id_b : a < b;
            });
            ls::sort_tokens(ids, vocabulary, order);
            CHECK(order == expected);
        }
}

TEST_CASE("sort_tokens: ids outside the vocabulary are refused") {
    std::vector<std::int32_t> order(2);
    CHECK_THROWS_WITH_AS(ls::sort_tokens(std::vector<std::int32_t>{1, 4}, 4, order),
                         "sort_tokens: token 1 has the id 4, outside the vocabulary [0, 4)", ls::bad_argument);
    CHECK_THROWS_AS(ls::sort_tokens(std::vector<std::int32_t>{1, -1}, 4, order), ls::bad_argument);
    CHECK_THROWS_AS(ls::sort_tokens(std::vector<std::int32_t>{1}, 4, order), ls::bad_argument);
}
