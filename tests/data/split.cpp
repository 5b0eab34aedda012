// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <set>

#include <longspan/data/split.hpp>
#include <longspan/data/text_documents.hpp>

namespace ls = longspan;
using ls::index;

namespace {

ls::text_documents numbered(index count) {
    ls::text_documents source;
    for (index i = 0; i < count; ++i) source.add("text " + std::to_string(i), "name " + std::to_string(i));
    return source;
}

std::set<std::string> names(const ls::text_documents& source) {
    std::set<std::string> all;
    for (index i = 0; i < source.count(); ++i) all.insert(source.name(i));
    return all;
}

}  // namespace

TEST_CASE("split: each document is on one side, one in ten is held out, order is kept") {
    for (const index count : {2, 3, 10, 14, 15, 100, 530}) {
        const auto [train, held_out] = ls::split(numbered(count), {.seed = 7});
        CHECK(held_out.count() == std::max<index>(1, (count + 5) / 10));
        CHECK(train.count() + held_out.count() == count);
        std::set<std::string> all = names(train);
        all.merge(names(held_out));
        CHECK(static_cast<index>(all.size()) == count);
        for (index i = 1; i < train.count(); ++i) CHECK(std::stoi(train.text(i).substr(5)) > std::stoi(train.text(i - 1).substr(5)));
    }
}

TEST_CASE("split: a function of the seed and of names, not of the order of documents") {
    const ls::text_documents source = numbered(200);
    const std::set<std::string> chosen = names(ls::split(source, {.seed = 1}).held_out);
    CHECK(names(ls::split(source, {.seed = 1}).held_out) == chosen);
    CHECK(names(ls::split(source, {.seed = 2}).held_out) != chosen);
    std::vector<index> backwards;
    for (index i = source.count(); i-- > 0;) backwards.push_back(i);
    CHECK(names(ls::split(source.select(backwards), {.seed = 1}).held_out) == chosen);
}

TEST_CASE("split: every document is held out under some seed") {
    std::set<std::string> ever;
    for (std::uint64_t seed = 0; seed < 100; ++seed) ever.merge(names(ls::split(numbered(20), {.seed = seed}).held_out));
    CHECK(ever.size() == 20);
}

TEST_CASE("split: copies of a text do not leak to the other side") {
    ls::text_documents source = numbered(40);
    for (index i = 0; i < 40; ++i) source.add(source.text(i), "copy " + std::to_string(i));
    for (std::uint64_t seed = 0; seed < 20; ++seed) {
        const auto [train, held_out] = ls::split(source, {.seed = seed});
        std::set<std::string> learnt;
        for (index i = 0; i < train.count(); ++i) learnt.insert(train.text(i));
        for (index i = 0; i < held_out.count(); ++i) CHECK_FALSE(learnt.contains(held_out.text(i)));
        CHECK(held_out.count() == 8);
    }
}

TEST_CASE("split: two texts are the least, and each side gets one") {
    const auto [train, held_out] = ls::split(ls::text_documents{"a", "", "b", "a"}, {.one_in = 2});
    CHECK(ls::total_tokens(train) >= 1);
    CHECK(ls::total_tokens(held_out) >= 1);
    CHECK(train.count() + held_out.count() == 4);
}

TEST_CASE("split: too few texts are refused with a sentence") {
    CHECK_THROWS_WITH_AS((void)ls::split(ls::text_documents{"a"}),
                         "A split into training and held-out documents needs at least two different ones; one came, document 0. "
                         "Give more files.", ls::bad_corpus);
    CHECK_THROWS_WITH_AS((void)ls::split(ls::text_documents{"", "a", "a"}),
                         "A split into training and held-out documents needs at least two different ones; 2 came, all with the "
                         "text of document 1. Give more files.", ls::bad_corpus);
    CHECK_THROWS_WITH_AS((void)ls::split(ls::text_documents{"", ""}),
                         "A split into training and held-out documents needs at least two different ones; there is none that "
                         "holds text. Give more files.", ls::bad_corpus);
    CHECK_THROWS_WITH_AS((void)ls::split(ls::text_documents{"a", "b"}, {.one_in = 1}),
                         "split: one document in one_in is held out, so one_in is at least 2; it is 1", ls::bad_argument);
}
