// SPDX-License-Identifier: Apache-2.0
//
// Every random number of longspan is a function of what it is for, never of when, where or in which order it is drawn: Philox
// 4x32-10 encrypts a counter under a key. So recomputed, offloaded, packed and sharded steps see the same masks, on host and
// device alike, and no generator state is stored but the seed and the step.
//
//   key      = the first two words of philox({step low, step high, layer, site}, seed): one per op and step, see `key_of`.
//   counter  = 16 bytes of randomness each, whole words, so that no field can run into another:
//
//     what                            word 0      word 1             word 2         word 3
//     token site (dropout)            document    position           channel / 16   0
//     document site (depth)           document    0                  0              1
//     elements of a tensor (init)     i/4 low     i/4 high           0              2
//     elements rounded (update)       i/8 low     i/8 high           1 + which      2
//     attention map                   document    query position     key / 16       3 + head
//
// Byte b of a block (little end of word 0 first) belongs to channel or key 16·group + b. Documents and positions are taken
// modulo 2^32; heads may number 2^32 - 3.
//
// Reference: J. Salmon, M. Moraes, R. Dror, D. Shaw, "Parallel Random Numbers: As Easy as 1, 2, 3", SC 2011; the tests hold the
// known answers published with Random123.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

/// 128 bits: a counter, or what became of it.
struct philox_block {
    std::uint32_t word[4];

    friend constexpr bool operator==(const philox_block&, const philox_block&) = default;
};

struct philox_key {
    std::uint32_t word[2];

    friend constexpr bool operator==(const philox_key&, const philox_key&) = default;
};

/// One of ten rounds.
LONGSPAN_HD constexpr void philox_round(philox_block& c, philox_key key) {
    const std::uint64_t p0 = std::uint64_t{0xD2511F53u} * c.word[0];
    const std::uint64_t p1 = std::uint64_t{0xCD9E8D57u} * c.word[2];
    c = {{static_cast<std::uint32_t>(p1 >> 32) ^ c.word[1] ^ key.word[0], static_cast<std::uint32_t>(p1),
          static_cast<std::uint32_t>(p0 >> 32) ^ c.word[3] ^ key.word[1], static_cast<std::uint32_t>(p0)}};
}
/// The key of the round after.
LONGSPAN_HD [[nodiscard]] constexpr philox_key next_key(philox_key key) { return {{key.word[0] + 0x9E3779B9u, key.word[1] + 0xBB67AE85u}}; }

/// Philox 4x32 with 10 rounds.
LONGSPAN_HD [[nodiscard]] constexpr philox_block philox4x32(philox_block counter, philox_key key) {
    for (int round = 0; round < 10; ++round, key = next_key(key)) philox_round(counter, key);
    return counter;
}

/// Where in a run randomness is drawn: the run's seed, the step, the layer, and which of the layer's draws it is.
struct random_site {
    std::uint64_t seed = 0;
    std::uint64_t step = 0;
    std::uint32_t layer = 0;
    std::uint32_t site = 0;
};

/// The key under which all of a site's counters are drawn.
LONGSPAN_HD [[nodiscard]] constexpr philox_key key_of(const random_site& at) {
    const philox_block where{
        {static_cast<std::uint32_t>(at.step), static_cast<std::uint32_t>(at.step >> 32), at.layer, at.site}};
    const philox_key seed{{static_cast<std::uint32_t>(at.seed), static_cast<std::uint32_t>(at.seed >> 32)}};
    const philox_block drawn = philox4x32(where, seed);
    return {{drawn.word[0], drawn.word[1]}};
}

/// Elements (bytes) that one block serves in the token and attention-map layouts.
inline constexpr index philox_group = 16;

/// The counter of channels [16·group, 16·group + 16) of one token.
LONGSPAN_HD [[nodiscard]] constexpr philox_block token_counter(index document, index position, index group) {
    return {
        {static_cast<std::uint32_t>(document), static_cast<std::uint32_t>(position), static_cast<std::uint32_t>(group), 0u}};
}

/// The counter of what is drawn once per document.
LONGSPAN_HD [[nodiscard]] constexpr philox_block document_counter(index document) {
    return {{static_cast<std::uint32_t>(document), 0u, 0u, 1u}};
}

/// The counter of elements [4·block, 4·block + 4) of a tensor, one word each.
LONGSPAN_HD [[nodiscard]] constexpr philox_block element_counter(index block) {
    return {{static_cast<std::uint32_t>(block), static_cast<std::uint32_t>(block >> 32), 0u, 2u}};
}

/// The counter of elements [8·group, 8·group + 8) of a store's weights (which = 0), first (1) or second moments (2), half a word each.
LONGSPAN_HD [[nodiscard]] constexpr philox_block rounding_counter(index group, std::uint32_t which) {
    return {{static_cast<std::uint32_t>(group), static_cast<std::uint32_t>(group >> 32), 1u + which, 2u}};
}

/// The counter of keys [16·group, 16·group + 16) as one query of one head sees them; positions within the document.
LONGSPAN_HD [[nodiscard]] constexpr philox_block attention_map_counter(index document, index head, index query, index group) {
    return {{static_cast<std::uint32_t>(document), static_cast<std::uint32_t>(query), static_cast<std::uint32_t>(group),
             static_cast<std::uint32_t>(3 + head)}};
}

/// Byte b of a block, 0 ≤ b < 16.
LONGSPAN_HD [[nodiscard]] constexpr std::uint8_t byte_of(const philox_block& block, index b) {
    return static_cast<std::uint8_t>(block.word[b / 4] >> (8 * (b % 4)));
}

/// Half-word h of a block, 0 ≤ h < 8.
LONGSPAN_HD [[nodiscard]] constexpr std::uint32_t half_of(const philox_block& block, index h) {
    return (block.word[h / 2] >> (16 * (h % 2))) & 0xffffu;
}

/// [0, 1) in steps of 2^-24, every step as likely as any other.
LONGSPAN_HD [[nodiscard]] constexpr float uniform(std::uint32_t word) {
    return static_cast<float>(static_cast<std::int32_t>(word >> 8)) * 0x1p-24f;
}

}  // namespace longspan
