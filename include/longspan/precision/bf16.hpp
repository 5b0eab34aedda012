// SPDX-License-Identifier: Apache-2.0
//
// bfloat16: the upper half of a float. 1 sign, 8 exponent and 7 stored mantissa bits: a float's range at 2^-8 relative error,
// which is why it trains without a loss scale. Storage only: values are computed in float and rounded once, to nearest, ties
// to even, exactly as cvt.rn.bf16.f32 does.
//
// Reference: Kalamkar et al., "A Study of BFLOAT16 for Deep Learning Training", arXiv:1905.12322.
#pragma once

#include <bit>
#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan {

/// A stored bfloat16. Reads as a float; made from one explicitly: overflow gives infinity, subnormals are kept, a NaN stays a
/// (quiet) NaN with its sign.
struct bf16 {
    std::uint16_t bits;

    constexpr bf16() = default;
    LONGSPAN_HD explicit constexpr bf16(float value) : bits(encode(value)) {}
    LONGSPAN_HD constexpr operator float() const { return decode(bits); }

    /// The value with exactly this pattern.
    LONGSPAN_HD [[nodiscard]] static constexpr bf16 from_bits(std::uint16_t pattern) {
        bf16 value{};
        value.bits = pattern;
        return value;
    }

    // Selects, not branches: loops over these two vectorise.
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint16_t encode(float value) {
        const std::uint32_t from = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t rounded = (from + 0x7fffu + ((from >> 16) & 1u)) >> 16;
        const std::uint32_t quiet = (from >> 16) | 0x0040u;
        return static_cast<std::uint16_t>((from & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
    }
    LONGSPAN_HD [[nodiscard]] static constexpr float decode(std::uint16_t pattern) {
        return std::bit_cast<float>(static_cast<std::uint32_t>(pattern) << 16);
    }
};
static_assert(sizeof(bf16) == 2);

}  // namespace longspan
