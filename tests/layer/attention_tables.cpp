// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include <longspan/layer/attention_tables.hpp>
#include <longspan/layer/context.hpp>
#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

constexpr ls::decoder_shape shape{.layers = 2, .width = 20, .heads = 12, .key_value_heads = 6, .head_width = 4, .head_group = 2};
using tables = ls::attention_tables<ls::model_of<shape, ls::uniform_precision<float>>>;

}  // namespace

TEST_CASE("attention_tables: the parts of all groups are the rows of the projection, each once; a group's own lie end to end") {
    std::vector<int> rows(static_cast<std::size_t>(tables::projected));
    for (ls::index i = 0; i < tables::groups; ++i) {
        ls::index own = 0;
        tables::for_each_part(i, [&](ls::index from, ls::index to, ls::index count) {
            CHECK(to == own);
            own += count;
            for (ls::index r = from; r < from + count; ++r) ++rows[static_cast<std::size_t>(r)];
        });
        CHECK(own == tables::group::projected);
    }
    CHECK(std::all_of(rows.begin(), rows.end(), [](int times) { return times == 1; }));
    static_assert(tables::groups == 3 && tables::group::heads == 4 && tables::group::key_heads == 2 && tables::apart && tables::sums_first);
}

TEST_CASE("attention_tables: a saved tensor of every group, one of the norm's") {
    constexpr auto& list = tables::saved_table::list;
    CHECK(list.size() == 2 + 5 * 3);
    CHECK(std::count_if(list.begin(), list.end(), [](const ls::tensor& t) { return std::string_view(t.name) == "qkv"; }) == 3);
    ls::arena memory(1 << 16);
    const tables::saved all(memory, 5);
    for (ls::index i = 0; i < 3; ++i) {
        const tables::kept_of<tables::saved> one{all, i};
        CHECK(one.get<"qkv">().data == all.get<"qkv">(i).data);
        CHECK(one.get<"rstd">().data == all.get<"rstd">().data);
    }
    CHECK(all.get<"qkv">(1).data >= all.get<"qkv">(0).data + 5 * tables::group::projected);
}
