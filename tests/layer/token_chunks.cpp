// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <utility>
#include <vector>

#include <longspan/layer/token_chunks.hpp>

namespace ls = longspan;

TEST_CASE("token_chunks: every token is in one chunk, the last one shorter") {
    const auto chunks = [](ls::index tokens, ls::index most) {
        std::vector<std::pair<ls::index, ls::index>> all;
        ls::for_token_chunks(tokens, most, [&](ls::index begin, ls::index count) { all.emplace_back(begin, count); });
        return all;
    };
    using list = std::vector<std::pair<ls::index, ls::index>>;
    CHECK(chunks(0, 4) == list{});
    CHECK(chunks(1, 4) == list{{0, 1}});
    CHECK(chunks(8, 4) == list{{0, 4}, {4, 4}});
    CHECK(chunks(9, 4) == list{{0, 4}, {4, 4}, {8, 1}});
}

namespace {

struct table {
    static constexpr std::array list{ls::tensor{"wide", ls::role::activation, 6}, ls::tensor{"absent", ls::role::activation, 0}};
};

}  // namespace

TEST_CASE("token_chunks: rows of all tensors, also of those that an option leaves out") {
    ls::arena memory(4096);
    const ls::tensors<ls::uniform_precision<float>, table> all(memory, 10);
    const ls::rows_of some{all, 3, 4};
    CHECK(some.get<"wide">().data == all.get<"wide">().data + 18);
    CHECK(some.get<"wide">().rows == 4);
    CHECK(some.get<"absent">().data == nullptr);
}
