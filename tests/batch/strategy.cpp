// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>

#include <longspan/batch/strategy.hpp>

namespace ls = longspan;
using ls::index;

namespace {

template <class S>
using bare = std::remove_cvref_t<S>;

// Chains of calls are values of types that differ in what was said, and in nothing else.
constexpr auto plain = ls::packed<8192>;
constexpr auto told = ls::packed<8192>.refuse().pieces<99>().accumulate<4>();
static_assert(plain.budget == 8192 && plain.micro_batches == 1 && plain.max_pieces == 130);
static_assert(plain.when_long == ls::long_documents::split && plain.fills == ls::filling::packed);
static_assert(told.budget == 8192 && told.micro_batches == 4 && told.max_pieces == 99);
static_assert(plain.tokens<16384>() == ls::packed<16384>);
static_assert(told.tokens<16384>().max_pieces == 198 && told.tokens<16384>().micro_batches == 4 && told.tokens<16>().max_pieces == 2);
static_assert(ls::padded<100>.tokens<3000>().max_pieces == 120);  // two a row, and as many more as there were
static_assert(ls::padded<8192>.tokens<8192>() == ls::padded<8192>);
static_assert(told.when_long == ls::long_documents::refuse);
static_assert(std::is_same_v<bare<decltype(told.split().pieces<130>().accumulate<1>())>, bare<decltype(plain)>>);
static_assert(ls::packed<64>.carry().when_long == ls::long_documents::carry);
static_assert(ls::bucketed<64>.fills == ls::filling::bucketed && ls::padded<64>.fills == ls::filling::padded);
static_assert(std::is_empty_v<decltype(told)>);

static_assert(ls::batching<bare<decltype(plain)>> && ls::batching<bare<decltype(told)>>);
static_assert(ls::batching<bare<decltype(ls::bucketed<1>)>> && ls::batching<bare<decltype(ls::padded<1>)>>);
static_assert(!ls::batching<int>);

/// A strategy from outside the library: each piece alone in its batch.
struct one_each {
    static constexpr index budget = 16, max_pieces = 2, micro_batches = 1;
    static constexpr ls::long_documents when_long = ls::long_documents::split;
    static void check(index) {}
    static ls::batch_layout lay(std::span<const index> lengths, index) {
        ls::batch_layout layout;
        for (std::size_t i = 0; i < lengths.size(); ++i) layout.push_back({{static_cast<index>(i), 0}});
        return layout;
    }
};
static_assert(ls::batching<one_each>);

}  // namespace

TEST_CASE("strategies lay pieces as their names say") {
    const std::vector<index> lengths{3, 8, 5, 1};
    CHECK(bare<decltype(ls::packed<8>)>::lay(lengths, 8) == ls::lay_packed(lengths, 8, 3));
    CHECK(bare<decltype(ls::bucketed<8>)>::lay(lengths, 8) == ls::lay_bucketed(lengths, 8, 3));
    CHECK(bare<decltype(ls::padded<16>)>::lay(lengths, 8) == ls::lay_padded(lengths, 16, 8));
}

TEST_CASE("a context that a strategy cannot serve is refused with a sentence") {
    CHECK_NOTHROW(ls::packed<64>.check(64));
    CHECK_THROWS_WITH_AS(ls::packed<64>.check(65),
                         "The token budget of a batch holds at least one context; the budget is 64 tokens, the context 65.",
                         ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::bucketed<64>.check(0), "The context is at least 1 token; it is 0.", ls::bad_argument);
    CHECK_NOTHROW(ls::padded<256>.check(128));
    CHECK_THROWS_WITH_AS(ls::padded<64>.check(48),
                         "A padded batch is whole rows of one context each; the budget of 64 tokens is no multiple of the "
                         "context, 48.", ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::padded<64>.check(8),
                         "A padded batch of 8 rows needs 16 pieces, a document and its padding in each; there is room for 3. "
                         "Say .pieces<N>().", ls::bad_argument);
    CHECK_NOTHROW(ls::padded<64>.pieces<16>().check(8));
    CHECK_THROWS_AS(ls::padded<64>.pieces<15>().check(8), ls::bad_argument);
}
