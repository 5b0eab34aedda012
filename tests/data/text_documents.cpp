// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/data/text_documents.hpp>

namespace ls = longspan;
using ls::index;

TEST_CASE("text_documents: names, sizes and tokens by ordinal") {
    ls::text_documents source{"abc", ""};
    source.add("\xc3\xa4", "umlaut");
    REQUIRE(source.count() == 3);
    CHECK(source.vocabulary() == 256);
    CHECK(source.size(0) == 3);
    CHECK(source.size(1) == 0);
    CHECK(source.name(1) == "document 1");
    CHECK(source.name(2) == "umlaut");
    std::vector<ls::token_id> two(2);
    source.read(0, 1, two);
    CHECK(two == std::vector<ls::token_id>{'b', 'c'});
    source.read(2, 0, two);
    CHECK(two == std::vector<ls::token_id>{0xc3, 0xa4});
    source.read(1, 0, std::span<ls::token_id>());
    CHECK(source.digest(0) == ls::hash64("abc"));
}

TEST_CASE("text_documents: a part is a source of its own") {
    ls::text_documents source(std::vector<std::string>{"zero", "one", "two"});
    const ls::text_documents part = source.select(std::vector<index>{2, 0});
    REQUIRE(part.count() == 2);
    CHECK(part.text(0) == "two");
    CHECK(part.name(0) == "document 2");
    CHECK(part.text(1) == "zero");
}

TEST_CASE("text_documents: reading outside a document is refused") {
    const ls::text_documents source{"abc"};
    std::vector<ls::token_id> two(2);
    CHECK_THROWS_WITH_AS(source.read(0, 2, two), "document 0 has 3 tokens; 2 from 2 on were asked for", ls::bad_argument);
    CHECK_THROWS_AS(source.read(0, -1, two), ls::bad_argument);
}
