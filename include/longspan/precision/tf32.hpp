// SPDX-License-Identifier: Apache-2.0
//
// TF32: how tensor cores read a float operand: 8 exponent and 10 stored mantissa bits. It is never stored (a tensor of that
// format is a tensor of floats), only rounded to; so its format is a tag, `tf32_format`, and the name `tf32` belongs to the
// precision policy (precision/policy.hpp).
//
// Reference: NVIDIA A100 Tensor Core GPU Architecture, 2020 ("TF32").
#pragma once

#include <bit>
#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan {

/// The format of a product's operand under tf32: a float rounded to nearest, ties to even, at 10 stored mantissa bits.
struct tf32_format {
    LONGSPAN_HD [[nodiscard]] static constexpr float round(float value) {
        const std::uint32_t from = std::bit_cast<std::uint32_t>(value);
        const std::uint32_t rounded = (from + 0x0fffu + ((from >> 13) & 1u)) & 0xffffe000u;
        const std::uint32_t quiet = (from & 0xffffe000u) | 0x00400000u;
        return std::bit_cast<float>((from & 0x7fffffffu) > 0x7f800000u ? quiet : rounded);
    }
};

}  // namespace longspan
