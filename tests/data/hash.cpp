// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <bit>
#include <set>
#include <string>

#include <longspan/data/hash.hpp>

namespace ls = longspan;

// The first words of splitmix64 started from 0 and from 1234567, as its authors' program prints them.
static_assert(ls::mix64(0) == 0xe220a8397b1dcdafU);
static_assert(ls::mix64(0x9e3779b97f4a7c15U) == 0x6e789e6aa1b965f4U);
static_assert(ls::mix64(1234567) == 6457827717110365317U);

static_assert(ls::combine64(1, 2) != ls::combine64(2, 1));
static_assert(ls::hash64("") != ls::hash64(std::string_view("\0", 1)));
static_assert(ls::hash64("text") == ls::hash64("text", 0));
static_assert(ls::hash64("text", 1) != ls::hash64("text", 2));

// Which files are held out depends on this value: it may never change.
static_assert(ls::hash64("eigen3/Eigen/Core", 42) == ls::combine64(ls::hash64_block("eigen3/Eigen/Core", 42), 17));

TEST_CASE("hash64: blocks of a multiple of 8 bytes, one after another, are the whole") {
    std::string text;
    for (int i = 0; i < 1003; ++i) text += static_cast<char>(i * 7);
    const std::string_view all = text;
    for (const std::size_t cut : {0U, 8U, 64U, 1000U}) {
        const std::uint64_t head = ls::hash64_block(all.substr(0, cut), 5);
        CHECK(ls::hash64_block(all.substr(cut), head) == ls::hash64_block(all, 5));
    }
}

TEST_CASE("hash64: texts that differ by one bit, or by length, differ") {
    std::set<std::uint64_t> hashes;
    std::size_t texts = 0;
    for (std::size_t length = 0; length <= 17; ++length) {
        const std::string text(length, '\0');
        hashes.insert(ls::hash64(text)), ++texts;
        for (std::size_t at = 0; at < length; ++at)
            for (int bit = 0; bit < 8; ++bit) {
                std::string other = text;
                other[at] = static_cast<char>(1 << bit);
                hashes.insert(ls::hash64(other)), ++texts;
            }
    }
    CHECK(hashes.size() == texts);
}

TEST_CASE("mix64: an input bit moves about half of the output bits") {
    for (int bit = 0; bit < 64; ++bit) {
        int moved = 0;
        for (std::uint64_t i = 0; i < 64; ++i) moved += std::popcount(ls::mix64(i) ^ ls::mix64(i ^ (std::uint64_t{1} << bit)));
        CHECK(moved > 64 * 26);  // 32 are expected, with a deviation of 0.5
        CHECK(moved < 64 * 38);
    }
}
