// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <set>
#include <tuple>

#include <longspan/core/philox.hpp>

namespace ls = longspan;

// The known answers published with Random123 (kat_vectors, philox4x32 10).
static_assert(ls::philox4x32({{0, 0, 0, 0}}, {{0, 0}}) ==
              ls::philox_block{{0x6627e8d5u, 0xe169c58du, 0xbc57ac4cu, 0x9b00dbd8u}});
static_assert(ls::philox4x32({{0xffffffffu, 0xffffffffu, 0xffffffffu, 0xffffffffu}}, {{0xffffffffu, 0xffffffffu}}) ==
              ls::philox_block{{0x408f276du, 0x41c83b0eu, 0xa20bc7c6u, 0x6d5451fdu}});
static_assert(ls::philox4x32({{0x243f6a88u, 0x85a308d3u, 0x13198a2eu, 0x03707344u}}, {{0xa4093822u, 0x299f31d0u}}) ==
              ls::philox_block{{0xd16cfe09u, 0x94fdccebu, 0x5001e420u, 0x24126ea1u}});

// The layouts as written down: these may not change, or a resumed run would draw other masks.
static_assert(ls::token_counter(7, 8, 9) == ls::philox_block{{7, 8, 9, 0}});
static_assert(ls::document_counter(7) == ls::philox_block{{7, 0, 0, 1}});
static_assert(ls::element_counter((ls::index{5} << 32) + 6) == ls::philox_block{{6, 5, 0, 2}});
static_assert(ls::attention_map_counter(7, 4, 8, 9) == ls::philox_block{{7, 8, 9, 7}});
static_assert(ls::key_of({.seed = 0, .step = 0, .layer = 0, .site = 0}) == ls::philox_key{{0x6627e8d5u, 0xe169c58du}});

// Room for 2^32 documents and 2^24 positions: the last ones are counters of their own.
static_assert(ls::token_counter((ls::index{1} << 32) - 1, (ls::index{1} << 24) - 1, 0) ==
              ls::philox_block{{0xffffffffu, 0x00ffffffu, 0, 0}});

static_assert(ls::byte_of({{0x04030201u, 0x08070605u, 0, 0xff000000u}}, 0) == 1);
static_assert(ls::byte_of({{0x04030201u, 0x08070605u, 0, 0xff000000u}}, 6) == 7);
static_assert(ls::byte_of({{0x04030201u, 0x08070605u, 0, 0xff000000u}}, 15) == 255);
static_assert(ls::uniform(0) == 0.0f && ls::uniform(0xffffffffu) == 1.0f - 0x1p-24f);

TEST_CASE("philox: each part of a site gives a key of its own") {
    std::set<std::tuple<std::uint32_t, std::uint32_t>> keys;
    int drawn = 0;
    for (std::uint64_t seed : {0ull, 1ull, 1ull << 32})
        for (std::uint64_t step : {0ull, 1ull, 1ull << 32})
            for (std::uint32_t layer : {0u, 1u, 95u})
                for (std::uint32_t site : {0u, 1u, 2u}) {
                    const ls::philox_key key = ls::key_of({seed, step, layer, site});
                    keys.insert({key.word[0], key.word[1]});
                    ++drawn;
                }
    CHECK(static_cast<int>(keys.size()) == drawn);
}

TEST_CASE("philox: bytes of neighbouring tokens are uniform and uncorrelated") {
    const ls::philox_key key = ls::key_of({.seed = 42, .step = 3, .layer = 1, .site = 0});
    const int tokens = 4096;
    int count[256] = {};
    double product = 0;
    for (ls::index t = 0; t < tokens; ++t) {
        const auto here = ls::philox4x32(ls::token_counter(5, t, 0), key),
                   next = ls::philox4x32(ls::token_counter(5, t + 1, 0), key);
        for (ls::index b = 0; b < 16; ++b) {
            ++count[ls::byte_of(here, b)];
            product += (ls::byte_of(here, b) - 127.5) * (ls::byte_of(next, b) - 127.5);
        }
    }
    const double expected = tokens * 16 / 256.0;
    double chi_squared = 0;
    for (int c : count) chi_squared += (c - expected) * (c - expected) / expected;
    CHECK(chi_squared > 150);  // 255 degrees of freedom: mean 255, deviation 22.6
    CHECK(chi_squared < 360);
    const double variance = (256.0 * 256.0 - 1) / 12;
    CHECK(std::abs(product / (tokens * 16) / variance) < 5.0 / 256);  // five deviations of a mean of 65,536 products
}
