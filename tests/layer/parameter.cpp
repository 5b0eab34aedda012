// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <type_traits>
#include <vector>

#include <longspan/layer/parameter.hpp>

namespace ls = longspan;

namespace {

struct table {
    static constexpr std::array list{
        ls::parameter{"a", 3, 50, ls::initial::normal, 0.1, true, ls::shard::column},
        ls::parameter{"off", 4, 0},
        ls::parameter{"b", 1, 128},
        ls::parameter{"c", 1, 1},
    };
};
static_assert(ls::table_size<table>() == 256 + 128 + 128);
static_assert(ls::table_parameters<table>() == 150 + 128 + 1);
static_assert(ls::parameters<table, float>::offset(1) == 256);
static_assert(ls::parameters<table, float>::offset(2) == 256);
static_assert(ls::parameters<table, float>::offset(3) == 384);

}  // namespace

TEST_CASE("parameter: names are views into the bucket, and what is off has no data") {
    std::vector<float> memory(static_cast<std::size_t>(ls::table_size<table>()));
    const ls::parameters<table, float> all(memory.data());
    const auto a = all.get<"a">(), b = all.get<"b">(), c = all.get<"c">();
    CHECK(a.data == memory.data());
    CHECK(a.rows == 3);
    CHECK(a.columns == 50);
    CHECK(a.stride == 50);
    CHECK(b.data == memory.data() + 256);
    CHECK(c.data == memory.data() + 384);
    CHECK(all.get<"off">().data == nullptr);
    c(0, 0) = 7;
    CHECK(memory[384] == 7);
    static_assert(std::is_same_v<decltype(ls::parameters<table, const double>(nullptr).get<"a">()), ls::matrix_view<const double>>);
}
