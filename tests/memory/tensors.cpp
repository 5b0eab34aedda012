// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>

#include <longspan/memory/tensors.hpp>

namespace ls = longspan;

namespace {

struct table {
    static constexpr std::array list{ls::tensor{"rstd", ls::role::statistic, 1}, ls::tensor{"off", ls::role::saved, 0},
                                     ls::tensor{"qkv", ls::role::saved, 30}};
};
struct parts {
    static constexpr std::array list{ls::tensor{"rstd", ls::role::statistic, 1}, ls::tensor{"qkv", ls::role::saved, 30, ls::cost::product},
                                     ls::tensor{"none", ls::role::saved, 0, ls::cost::attention},
                                     ls::tensor{"attended", ls::role::saved, 10, ls::cost::attention}};
};
using half = std::remove_cvref_t<decltype(ls::mixed<ls::bf16>)>;

static_assert(ls::layout_of<half, table>("t", 10).peak(1) == 10 * 4 + 10 * 30 * 2);
static_assert(ls::layout_of<half, table>("t", 10).peak(64) == 64 + 640);
static_assert(ls::element_bytes<half>(ls::role::weight) == 2);
static_assert(ls::element_bytes<half>(ls::role::master) == 4);
static_assert(ls::element_bytes<half>(ls::role::parameter_gradient) == 4);
static_assert(ls::element_bytes<std::remove_cvref_t<decltype(ls::fp64)>>(ls::role::moment) == 8);

}  // namespace

TEST_CASE("tensors: views are typed by role, take what the layout says, and come back in order") {
    ls::arena memory(4096);
    {
        ls::tensors<half, table> held(memory, 10);
        CHECK(memory.used() == ls::layout_of<half, table>("t", 10).peak(64));
        const auto rstd = held.get<"rstd">();
        const auto qkv = held.get<"qkv">();
        static_assert(std::is_same_v<decltype(rstd), const ls::matrix_view<float>>);
        static_assert(std::is_same_v<decltype(qkv), const ls::matrix_view<ls::bf16>>);
        CHECK(rstd.rows == 10);
        CHECK(rstd.columns == 1);
        CHECK(qkv.columns == 30);
        CHECK(reinterpret_cast<std::byte*>(qkv.data) == reinterpret_cast<std::byte*>(rstd.data) + 64);
        CHECK(held.get<"off">().data == nullptr);
        held.hold(memory, 20);  // another size: the old regions go first
        CHECK(memory.used() == ls::layout_of<half, table>("t", 20).peak(64));
        held.drop();
        CHECK(memory.used() == 0);
        held.drop();  // nothing to give back
        CHECK(memory.used() == 0);
        held.hold(memory, 1);
    }
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
}

namespace {

struct alike {
    static constexpr std::array list{ls::tensor{"rstd", ls::role::statistic, 1}, ls::tensor{"qkv", ls::role::saved, 30},
                                     ls::tensor{"qkv", ls::role::saved, 30}, ls::tensor{"qkv", ls::role::saved, 30}};
};
static_assert(ls::layout_of<half, alike>("t", 10).nodes().size() == 3);  // neighbours alike are one node
static_assert(ls::layout_of<half, alike>("t", 10).peak(64) == 64 + 3 * 640);

}  // namespace

TEST_CASE("tensors: several alike are told apart by number, each a region of its own") {
    ls::arena memory(4096);
    const ls::tensors<half, alike> held(memory, 10);
    CHECK(memory.used() == ls::layout_of<half, alike>("t", 10).peak(64));
    CHECK(held.get<"qkv">().data == held.get<"qkv">(0).data);
    for (const ls::index i : {0, 1}) {
        CHECK(reinterpret_cast<std::byte*>(held.get<"qkv">(i + 1).data) == reinterpret_cast<std::byte*>(held.get<"qkv">(i).data) + 640);
    }
}

TEST_CASE("tensors: when one does not fit, none is held") {
    ls::arena memory(256);
    ls::tensors<half, table> held;
    CHECK_THROWS_AS(held.hold(memory, 10), ls::out_of_memory);
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
    held.hold(memory, 2);
    CHECK(memory.used() == 64 + 128);
}

TEST_CASE("tensors: a table in two parts, what is worth keeping below and the rest above it") {
    ls::arena memory(4096);
    const ls::layout all = ls::layout_of<half, parts>("", 10);
    for (const ls::cost from : {ls::cost::pass, ls::cost::expansion, ls::cost::product, ls::cost::attention, ls::cost::output}) {
        const ls::bytes kept = all.only([&](ls::cost worth) { return worth >= from; }).peak(64);
        ls::tensors<half, parts> held;
        held.hold(memory, 10, from);
        CHECK(memory.used() == kept);
        const auto* attended = held.get<"attended">().data;
        for (int again = 0; again < 2; ++again) {
            held.hold_rest();
            CHECK(memory.used() == all.peak(64));
            if (from <= ls::cost::attention) CHECK(held.get<"attended">().data == attended);
            held.drop_rest();
            held.drop_rest();
            CHECK(memory.used() == kept);
        }
        held.hold_rest();
        held.drop();
        CHECK(memory.used() == 0);
        CHECK(memory.in_order());
    }
    ls::arena small(512);
    ls::tensors<half, parts> held;
    held.hold(small, 10, ls::cost::attention);
    const ls::bytes kept = small.used();
    CHECK_THROWS_AS(held.hold_rest(), ls::out_of_memory);
    CHECK(small.used() == kept);
    held.drop();
    CHECK(small.used() == 0);
    CHECK(small.in_order());
}

TEST_CASE("tensors: what is kept, and nothing else, is named with its place in two holders and its bytes") {
    ls::arena here(4096), away(4096);
    const ls::layout all = ls::layout_of<half, parts>("", 10);
    for (const ls::cost from : {ls::cost::pass, ls::cost::product, ls::cost::attention, ls::cost::output}) {
        ls::tensors<half, parts> held, there;
        held.hold(here, 10, from);
        held.hold_rest();
        there.hold(away, 10, from);
        ls::bytes named = 0;
        int pieces = 0;
        held.with_kept_of(there, [&](std::byte* at, std::byte* to, ls::bytes size) {
            ++pieces, named += size;
            const auto is = [&](auto a, auto b, ls::bytes bytes) {
                return at == reinterpret_cast<std::byte*>(a.data) && to == reinterpret_cast<std::byte*>(b.data) && size == bytes;
            };
            CHECK((is(held.get<"rstd">(), there.get<"rstd">(), 40) || is(held.get<"qkv">(), there.get<"qkv">(), 600) ||
                   is(held.get<"attended">(), there.get<"attended">(), 200)));
        });
        CHECK(named == all.only([&](ls::cost worth) { return worth >= from; }).peak(1));
        CHECK(pieces == (from == ls::cost::pass ? 3 : from == ls::cost::product ? 2 : from == ls::cost::attention ? 1 : 0));
    }
}
