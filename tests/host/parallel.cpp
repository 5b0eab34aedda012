// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <stdexcept>
#include <string>
#include <vector>

#include <longspan/host/parallel.hpp>

using longspan::host::parallel_for;
using longspan::host::threads;

TEST_CASE("parallel_for: every index once, for counts around nothing and the thread count") {
    for (const longspan::index count : {0, 1, 2, 3, 17, 1000}) {
        std::vector<int> calls(static_cast<std::size_t>(count), 0);
        parallel_for(count, [&](longspan::index i) { ++calls[static_cast<std::size_t>(i)]; });
        for (const int c : calls) REQUIRE(c == 1);
    }
}

TEST_CASE("parallel_for: the exception of the lowest index comes out, and all before it ran") {
    for (int attempt = 0; attempt < 50; ++attempt) {
        std::vector<int> calls(64, 0);
        std::string message;
        try {
            parallel_for(64, [&](longspan::index i) {
                calls[static_cast<std::size_t>(i)] = 1;
                if (i >= 20 && i % 2 == 1) throw std::runtime_error(std::to_string(i));
            });
        } catch (const std::runtime_error& e) {
            message = e.what();
        }
        REQUIRE(message == "21");
        for (std::size_t i = 0; i <= 21; ++i) REQUIRE(calls[i] == 1);
    }
}

TEST_CASE("parallel_for: a nested call runs on its caller's thread") {
    std::vector<std::vector<int>> order(8);
    std::vector<int> inner_threads(8, 0);
    parallel_for(8, [&](longspan::index i) {
        auto& mine = order[static_cast<std::size_t>(i)];
        inner_threads[static_cast<std::size_t>(i)] = threads();
        parallel_for(5, [&](longspan::index j) { mine.push_back(static_cast<int>(j)); });
    });
    for (const auto& mine : order) CHECK(mine == std::vector<int>{0, 1, 2, 3, 4});
    if (threads() > 1)
        for (const int n : inner_threads) CHECK(n == 1);
    CHECK(threads() >= 1);
}

TEST_CASE("parallel_for: an exception from a nested call comes out of the outer one") {
    CHECK_THROWS_AS(parallel_for(4,
                                 [](longspan::index) {
                                     parallel_for(4, [](longspan::index j) {
                                         if (j == 3) throw std::logic_error("x");
                                     });
                                 }),
                    std::logic_error);
}
