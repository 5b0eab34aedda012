// SPDX-License-Identifier: Apache-2.0
//
// Stochastic rounding to bf16: up or down with the probabilities that make the mean exact. A weight that is its own master moves by
// less than half of its last place in most updates; rounded to nearest it would never move, rounded stochastically it moves in the
// mean by what was asked. 16 random bits are added to the 16 that a bf16 has not, and what is left over is cut off: exact, since a
// float has just these 16 bits more.
//
// The bits are a function of (seed, update, which tensor, element of the store): the same on host and device, in whichever order and
// pieces a store is updated, and drawn again when a run goes on from a snapshot.
//
// Reference: Gupta et al., "Deep Learning with Limited Numerical Precision", arXiv:1502.02551; Zamirai et al., "Revisiting BFloat16
// Training", arXiv:2010.06192.
#pragma once

#include <bit>
#include <cstdint>

#include <longspan/core/philox.hpp>
#include <longspan/core/types.hpp>
#include <longspan/precision/bf16.hpp>

namespace longspan {

/// One of the two bf16 beside `value`, by 16 random bits: the upper in magnitude with the probability of its share of the way. What is
/// a bf16 already stays, a NaN stays one; above the largest finite value it may become infinite, as to nearest.
LONGSPAN_HD [[nodiscard]] constexpr bf16 round_stochastically(float value, std::uint32_t random) {
    const std::uint32_t from = std::bit_cast<std::uint32_t>(value);
    const std::uint32_t special = (from & 0x7fffffffu) > 0x7f800000u ? 0x00400000u : 0u;
    return bf16::from_bits(static_cast<std::uint16_t>((special != 0 ? from | special : from + random) >> 16));
}

/// Which run of a store is rounded.
enum class rounded_tensor : std::uint32_t { weight, first_moment, second_moment };

/// What the draws of an update hang on, where a backend keeps it: the seed of the run, and the number of the update.
struct rounding_source {
    const std::uint64_t* seed = nullptr;
    const index* update = nullptr;

    static constexpr std::uint32_t site = 0x726f756e;  // apart from every draw_site, and from where parameters start
    LONGSPAN_HD [[nodiscard]] constexpr philox_key key() const {
        return key_of({.seed = *seed, .step = static_cast<std::uint64_t>(*update), .layer = 0, .site = site});
    }
};

/// The random bits of elements [8·group, 8·group + 8) of a store; `half_of(block, element % 8)` is one's.
LONGSPAN_HD [[nodiscard]] constexpr philox_block rounding_bits(philox_key key, index group, rounded_tensor which) {
    return philox4x32(rounding_counter(group, static_cast<std::uint32_t>(which)), key);
}

}  // namespace longspan
