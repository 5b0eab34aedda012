// SPDX-License-Identifier: Apache-2.0
//
// 64-bit hashes, for choosing (which files are held out, in which order documents come) and for noticing (the corpus is not
// the one that the run began with). Not for security: whoever writes the text can make two hashes meet.
//
// `mix64` is the finaliser of splitmix64 (Steele, Lea, Flood, "Fast splittable pseudorandom number generators", 2014): a
// bijection on 64 bits, so that consecutive counters become independent-looking words without any state.
#pragma once

#include <string_view>

#include <longspan/core/types.hpp>

namespace longspan {

/// A bijection of 64-bit words in which every input bit moves about half of the output bits.
[[nodiscard]] constexpr std::uint64_t mix64(std::uint64_t word) noexcept {
    word += 0x9e3779b97f4a7c15U;
    word = (word ^ (word >> 30)) * 0xbf58476d1ce4e5b9U;
    word = (word ^ (word >> 27)) * 0x94d049bb133111ebU;
    return word ^ (word >> 31);
}

/// One hash of two, in order: combine64(a, b) is not combine64(b, a).
[[nodiscard]] constexpr std::uint64_t combine64(std::uint64_t first, std::uint64_t second) noexcept {
    return mix64(mix64(first) ^ second);
}

/// The hash of a text, started from `seed`. A long text may be hashed in blocks, seed after seed, if every block but the
/// last has a multiple of 8 bytes; the caller then adds the length, which `hash64` of a whole text does by itself.
[[nodiscard]] constexpr std::uint64_t hash64_block(std::string_view text, std::uint64_t seed) noexcept {
    std::size_t at = 0;
    for (; at < text.size(); at += 8) {
        std::uint64_t word = 0;  // bytes in little-endian order on every machine
        for (std::size_t i = 0; i < 8 && at + i < text.size(); ++i)
            word |= std::uint64_t{static_cast<unsigned char>(text[at + i])} << (8 * i);
        seed = mix64(seed ^ word);
    }
    return seed;
}

/// The hash of a whole text; texts that differ by trailing NUL bytes differ too.
[[nodiscard]] constexpr std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0) noexcept {
    return combine64(hash64_block(text, seed), text.size());
}

}  // namespace longspan
