// SPDX-License-Identifier: Apache-2.0
//
// Who checks the checkers? Every bound of every interval, both ways, is shifted by one, any and all are swapped, mask words are
// shifted, run lists are falsified: whatever changes anything must be noticed.
#include <doctest/doctest.h>

#include <vector>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

#include "checker.hpp"

namespace ls = longspan;
using ls::index;
using ls::checker::verdict;

namespace {

enum class fault { none, any_begin, any_end, all_begin, all_end, swapped, bits };

struct mutation {
    fault what = fault::none;
    bool backward = false;  // in queries and query_bits, not in keys and key_bits
    bool last = false;      // the last interval, not the first
    index by = 1;
};

// P with one wrong bound; `contains` stays the truth.
template <ls::pattern P>
struct mutant {
    struct arguments {
        typename P::arguments original{};
        mutation wrong{};
    };
    static constexpr bool contains(const arguments& a, index d, index query, index key) { return P::contains(a.original, d, query, key); }
    static constexpr auto keys(const arguments& a, index d, ls::interval queries) {
        return altered(P::keys(a.original, d, queries), a.wrong, !a.wrong.backward);
    }
    static constexpr auto queries(const arguments& a, index d, ls::interval keys) {
        return altered(P::queries(a.original, d, keys), a.wrong, a.wrong.backward);
    }
    static constexpr std::uint32_t key_bits(const arguments& a, index d, index query, index first) {
        return P::key_bits(a.original, d, query, first + (a.wrong.what == fault::bits && !a.wrong.backward ? a.wrong.by : 0));
    }
    static constexpr std::uint32_t query_bits(const arguments& a, index d, index key, index first) {
        return P::query_bits(a.original, d, key, first + (a.wrong.what == fault::bits && a.wrong.backward ? a.wrong.by : 0));
    }
    static constexpr ls::interval uncovered_keys(const arguments& a, index d, ls::interval keys) { return ls::uncovered_keys<P>(a.original, d, keys); }
    static constexpr ls::interval uncovered_queries(const arguments& a, index d, ls::interval queries) {
        return ls::uncovered_queries<P>(a.original, d, queries);
    }

private:
    template <int C>
    static constexpr ls::any_all<C> altered(ls::any_all<C> seen, const mutation& m, bool here) {
        if (!here || m.what == fault::none || m.what == fault::bits) return seen;
        if (m.what == fault::swapped) return {seen.all, seen.any};
        auto& set = m.what == fault::any_begin || m.what == fault::any_end ? seen.any : seen.all;
        if (set.count == 0) return seen;
        ls::interval& x = set.items[m.last ? set.count - 1 : 0];
        (m.what == fault::any_begin || m.what == fault::all_begin ? x.begin : x.end) += m.by;
        ls::interval_set<C> again{};  // well formed, so that only the bound itself can give it away
        for (int i = 0; i < set.count; ++i) again.append(set.items[i]);
        set = again;
        return seen;
    }
};

std::vector<mutation> every_mutation() {
    std::vector<mutation> all;
    for (bool backward : {false, true}) {
        for (bool last : {false, true}) {
            for (fault what : {fault::any_begin, fault::any_end, fault::all_begin, fault::all_end}) {
                for (index by : {index{-1}, index{1}}) all.push_back({what, backward, last, by});
            }
        }
        all.push_back({fault::swapped, backward});
        for (index by : {index{-1}, index{1}}) all.push_back({fault::bits, backward, false, by});
    }
    return all;
}

constexpr int size = 21;

// What the checkers look at: membership of every position for every run, and every word.
template <ls::pattern P>
bool differs(const typename P::arguments& a, const typename P::arguments& b) {
    for (index begin = 0; begin < size; ++begin) {
        for (index end = begin + 1; end <= size; ++end) {
            const auto k = P::keys(a, 0, {begin, end}), l = P::keys(b, 0, {begin, end});
            const auto q = P::queries(a, 0, {begin, end}), r = P::queries(b, 0, {begin, end});
            for (index i = 0; i < size; ++i) {
                if (k.any.contains(i) != l.any.contains(i) || k.all.contains(i) != l.all.contains(i)) return true;
                if (q.any.contains(i) != r.any.contains(i) || q.all.contains(i) != r.all.contains(i)) return true;
            }
        }
        for (index first = 0; first < size; ++first) {
            if (P::key_bits(a, 0, begin, first) != P::key_bits(b, 0, begin, first)) return true;
            if (P::query_bits(a, 0, begin, first) != P::query_bits(b, 0, begin, first)) return true;
        }
    }
    return false;
}

template <ls::pattern P>
bool passes(const typename P::arguments& a) {
    return ls::checker::check_sets<size, P>(a) == verdict::exact && ls::checker::check_bits<size, P>(a);
}

// `with(m)`: the arguments of P whose mutated part has the mutation m. Returns how many mutants there were to notice.
template <ls::pattern P, class With>
int hunt(const With& with) {
    REQUIRE(passes<P>(with(mutation{})));
    int noticed = 0;
    for (const mutation& m : every_mutation()) {
        if (!differs<P>(with(m), with(mutation{}))) continue;  // no such bound here, or it lies outside every document
        ++noticed;
        CAPTURE(static_cast<int>(m.what));
        CAPTURE(m.backward);
        CAPTURE(m.last);
        CAPTURE(m.by);
        CHECK_FALSE(passes<P>(with(m)));
    }
    return noticed;
}

template <auto Pattern>
int hunt_leaf(const typename ls::pattern_of<Pattern>::arguments& original = {}) {
    using P = ls::pattern_of<Pattern>;
    return hunt<mutant<P>>([&](mutation m) { return typename mutant<P>::arguments{original, m}; });
}

template <auto Pattern>
inline constexpr mutant<ls::pattern_of<Pattern>> mutated{};

}  // namespace

TEST_CASE("mutation: any bound of a pattern shifted by one is noticed") {
    CHECK(every_mutation().size() == 38);
    // window has one interval whose bounds all matter, so that first and last are the same mutation: none is without effect.
    CHECK(hunt_leaf<ls::window<5>>() == 38);
    CHECK(hunt_leaf<ls::causal & ls::window<5>>() == 38);
    // causal is bounded on one side only: nothing lies before position 0 or behind the last.
    CHECK(hunt_leaf<ls::causal>() >= 20);
    const index lengths[]{6};
    CHECK(hunt_leaf<ls::first<5>>() >= 12);
    CHECK(hunt_leaf<ls::global<5>>() >= 12);
    CHECK(hunt_leaf<ls::prefix>({lengths}) >= 12);
    CHECK(hunt_leaf<ls::causal | ls::prefix>({lengths}) >= 20);
    CHECK(hunt_leaf<ls::causal & (ls::window<5> | ls::first<3>)>() >= 30);
    CHECK(hunt_leaf<ls::window<5> | ls::global<3>>() >= 30);
    constexpr auto map = ls::block_map_of<3, 6>([](index q, index k) { return (q + k) % 2 == 0; });
    CHECK(hunt_leaf<ls::blocks<map>>() >= 30);
}

TEST_CASE("mutation: a part's wrong bound is noticed in the whole") {
    using in_window = ls::pattern_of<ls::causal & (mutated<ls::window<5>> | ls::first<3>)>;
    CHECK(hunt<in_window>([](mutation m) { return in_window::arguments{{}, m}; }) >= 20);
    using in_first = ls::pattern_of<ls::causal & (ls::window<5> | mutated<ls::first<3>>)>;
    CHECK(hunt<in_first>([](mutation m) { return in_first::arguments{{}, m}; }) >= 6);
    using in_causal = ls::pattern_of<mutated<ls::causal> & (ls::window<5> | ls::first<3>)>;
    CHECK(hunt<in_causal>([](mutation m) { return in_causal::arguments{{}, m}; }) >= 20);
}

TEST_CASE("mutation: false run lists are noticed") {
    // Four tiles of 4 elements: empty, partial, full, partial.
    const index seen[]{0, 2, 4, 1};
    constexpr auto partial = ls::tile_class::partial, full = ls::tile_class::full;
    const auto check = [&](const std::vector<ls::tile_run>& runs) {
        return ls::checker::check_runs(runs, 4, [&](index i) { return seen[i]; }, [](index) { return index{4}; });
    };
    CHECK(check({{1, 2, partial}, {2, 3, full}, {3, 4, partial}}).tight());
    CHECK(check({{1, 4, partial}}).full_tested == 1);
    CHECK(check({{0, 2, partial}, {2, 3, full}, {3, 4, partial}}).empty_visited == 1);
    CHECK(check({{1, 3, full}, {3, 4, partial}}).unsound == 1);                                     // partial as full
    CHECK(check({{2, 3, full}, {3, 4, partial}}).unsound == 1);                                     // a live tile left out
    CHECK_FALSE(check({{1, 2, partial}, {2, 3, full}, {2, 4, partial}}).sound());                   // a tile named twice
    CHECK_FALSE(check({{2, 3, full}, {1, 2, partial}, {3, 4, partial}}).sound());                   // out of order
    CHECK_FALSE(check({{1, 2, partial}, {2, 3, full}, {3, 5, partial}}).sound());                   // outside
    CHECK_FALSE(check({{1, 2, partial}, {2, 2, full}, {2, 3, full}, {3, 4, partial}}).sound());     // an empty run
    CHECK_FALSE(check({{1, 2, partial}, {2, 3, partial}, {3, 4, partial}}).sound());                // not maximal
    CHECK_FALSE(check({{0, 1, ls::tile_class::empty}, {1, 2, partial}, {2, 3, full}, {3, 4, partial}}).sound());
}
