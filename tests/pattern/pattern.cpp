// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/pattern.hpp>

#include <doctest/doctest.h>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

#include "checker.hpp"

namespace ls = longspan;

namespace mine {

// A pattern of a user's own, outside the library: queries see keys of an even distance in front of them, all of them behind.
struct even_ahead {
    using arguments = ls::no_arguments;
    static constexpr bool contains(arguments, ls::index, ls::index query, ls::index key) { return key <= query || (key - query) % 2 == 0; }
    static constexpr ls::any_all<1> keys(arguments, ls::index, ls::interval queries) {
        return {ls::just(ls::everywhere), ls::just({0, queries.begin + 1})};
    }
    static constexpr ls::any_all<1> queries(arguments, ls::index, ls::interval keys) {
        return {ls::just(ls::everywhere), ls::just({keys.end - 1, ls::no_end})};
    }
    static constexpr std::uint32_t key_bits(arguments a, ls::index d, ls::index query, ls::index first_key) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 32; ++i) bits |= contains(a, d, query, first_key + i) ? 1u << i : 0u;
        return bits;
    }
    static constexpr std::uint32_t query_bits(arguments a, ls::index d, ls::index key, ls::index first_query) {
        std::uint32_t bits = 0;
        for (int i = 0; i < 32; ++i) bits |= contains(a, d, first_query + i, key) ? 1u << i : 0u;
        return bits;
    }
};

struct forgets_the_backward {
    using arguments = ls::no_arguments;
    static constexpr bool contains(arguments, ls::index, ls::index, ls::index) { return true; }
};

}  // namespace mine

static_assert(ls::pattern<mine::even_ahead> && !ls::pattern<mine::forgets_the_backward> && !ls::pattern<int>);
static_assert(ls::checker::proven<ls::pattern_of<mine::even_ahead{} & ls::window<5>>>({}, 0, ls::checker::verdict::slack));

TEST_CASE("pattern: classes of tiles within a document") {
    using causal = ls::pattern_of<ls::causal>;
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {0, 64}) == ls::tile_class::full);
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {0, 65}) == ls::tile_class::full);
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {0, 66}) == ls::tile_class::partial);
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {127, 200}) == ls::tile_class::partial);
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {128, 200}) == ls::tile_class::empty);
    CHECK(ls::classify<causal>({}, 0, {64, 64}, {0, 64}) == ls::tile_class::empty);
    CHECK(ls::classify<causal>({}, 0, {64, 128}, {5, 5}) == ls::tile_class::empty);
}
