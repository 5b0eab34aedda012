// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/data/byte_tokens.hpp>

namespace ls = longspan;

TEST_CASE("byte_tokens: every byte goes there and back") {
    std::string all;
    for (int byte = 0; byte < 256; ++byte) all += static_cast<char>(byte);
    const std::vector<ls::token_id> ids = ls::byte_tokens::encode(all);
    REQUIRE(ids.size() == 256);
    for (int byte = 0; byte < 256; ++byte) CHECK(ids[static_cast<std::size_t>(byte)] == byte);
    CHECK(ls::byte_tokens::decode(ids) == all);
    CHECK(ls::byte_tokens::encode("").empty());
    CHECK(ls::byte_tokens::decode({}).empty());
}

TEST_CASE("byte_tokens: an id that is no byte is refused") {
    CHECK_THROWS_WITH_AS((void)ls::byte_tokens::decode(std::vector<ls::token_id>{65, 256}),
                         "byte_tokens::decode: an id is a byte, 0 to 255; the one at index 1 is 256", ls::bad_argument);
    CHECK_THROWS_AS((void)ls::byte_tokens::decode(std::vector<ls::token_id>{-1}), ls::bad_argument);
}
