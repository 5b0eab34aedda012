// SPDX-License-Identifier: Apache-2.0
//
// IEEE 754 binary16: 1 sign, 5 exponent and 10 stored mantissa bits. Relative error 2^-11, largest value 65504, smallest normal
// 2^-14, smallest subnormal 2^-24: gradients need a loss scale. Storage only: values are computed in float and rounded once, to
// nearest, ties to even, exactly as cvt.rn.f16.f32 does.
//
// Reference: Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740.
#pragma once

#include <bit>
#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan {

/// A stored half. Reads as a float; made from one explicitly: above 65519.996 gives infinity, subnormals are kept, a NaN stays
/// a (quiet) NaN with its sign.
struct fp16 {
    std::uint16_t bits;

    constexpr fp16() = default;
    LONGSPAN_HD explicit constexpr fp16(float value) : bits(encode(value)) {}
    LONGSPAN_HD constexpr operator float() const { return decode(bits); }

    /// The value with exactly this pattern.
    LONGSPAN_HD [[nodiscard]] static constexpr fp16 from_bits(std::uint16_t pattern) {
        fp16 value{};
        value.bits = pattern;
        return value;
    }

    // All cases are computed and then selected, so that loops over these two vectorise.
    LONGSPAN_HD [[nodiscard]] static constexpr std::uint16_t encode(float value) {
        const std::uint32_t from = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t sign = (from >> 16) & 0x8000u;
        const std::uint32_t magnitude = from & 0x7fffffffu;
        // Normal: move the exponent's bias from 127 to 15, then round off 13 bits (a carry may reach the exponent, or infinity).
        const std::uint32_t normal = (magnitude - (112u << 23) + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
        // Subnormal: a sum with 0.5 has a unit of 2^-24 in its last place, so the addition itself rounds to nearest even.
        const std::uint32_t subnormal = std::bit_cast<std::uint32_t>(std::bit_cast<float>(magnitude) + 0.5f) - 0x3f000000u;
        const std::uint32_t special = magnitude > 0x7f800000u ? 0x7e00u | ((magnitude >> 13) & 0x01ffu) : 0x7c00u;
        const std::uint32_t finite = magnitude < 0x38800000u ? subnormal : normal;
        return static_cast<std::uint16_t>(sign | (magnitude >= 0x47800000u ? special : finite));
    }
    LONGSPAN_HD [[nodiscard]] static constexpr float decode(std::uint16_t pattern) {
        const std::uint32_t sign = (static_cast<std::uint32_t>(pattern) & 0x8000u) << 16;
        const std::uint32_t magnitude = static_cast<std::uint32_t>(pattern) & 0x7fffu;
        const std::uint32_t normal = (magnitude << 13) + (112u << 23);
        // Infinity keeps its pattern, a NaN becomes quiet as the hardware's conversion makes it.
        const std::uint32_t special = (magnitude << 13) | 0x7f800000u | (magnitude > 0x7c00u ? 0x00400000u : 0u);
        // Subnormal m·2^-24: give it the exponent of 2^-14 and take 2^-14 off again, exactly.
        const float exact = std::bit_cast<float>((magnitude << 13) + (113u << 23)) - std::bit_cast<float>(113u << 23);
        const std::uint32_t finite = magnitude < 0x0400u ? std::bit_cast<std::uint32_t>(exact) : normal;
        return std::bit_cast<float>(sign | (magnitude >= 0x7c00u ? special : finite));
    }
};
static_assert(sizeof(fp16) == 2);

}  // namespace longspan
