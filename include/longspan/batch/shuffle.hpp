// SPDX-License-Identifier: Apache-2.0
//
// An order that is a function of a seed alone: Fisher-Yates, with word i of the stream mix64(key + i), so that it needs no
// generator to be saved. The draw below n multiplies instead of dividing; of the n! orders none is favoured by more than
// n / 2^64. std::shuffle is not used because the standard leaves its draws to the library.
#pragma once

#include <span>
#include <utility>

#include <longspan/data/hash.hpp>

namespace longspan {

/// Puts `items` into the order that `key` names.
template <class T>
constexpr void shuffle(std::span<T> items, std::uint64_t key) {
    __extension__ using wide = unsigned __int128;
    for (std::size_t n = items.size(); n > 1; --n) {
        const std::uint64_t word = mix64(mix64(key) + n);
        const auto below_n = static_cast<std::size_t>((static_cast<wide>(word) * n) >> 64);
        std::swap(items[n - 1], items[below_n]);
    }
}

}  // namespace longspan
