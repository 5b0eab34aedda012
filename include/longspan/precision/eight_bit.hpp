// SPDX-License-Identifier: Apache-2.0
//
// Eight bits for a number: block-wise dynamic quantisation. Of every 256 elements the largest magnitude is kept in float, and each
// element as the nearest of 256 values between −1 and 1 (between 0 and 1 without a sign) times it: 1 + 4/256 bytes an element. The
// values are dense where moments are: seven decades, each with twice as many values as the one below,
//
//     10⁻ᶻ · (0.1 + 0.9 · (f + 0.5) / 2ⁿ),  0 ≤ f < 2ⁿ,  z = 0, …, 6,  n = 6 − z with a sign, 7 − z without;   and 0, and 1
//
// so the error is at most 0.7 % (0.35 %) of the block's largest, in each decade below at most twice as much of that decade's end.
// Without a sign nothing but 0 becomes 0: an update divides by the root of the second moment, and one that vanished before its first
// moment would send the parameter away.
//
// The code of 0 is 0, so memory that is zeroed holds zeros. Host and device give the same code for the same float: a guess by
// arithmetic is put right by the thresholds, which are exact.
//
// Reference: Dettmers et al., "8-bit Optimizers via Block-wise Quantization", arXiv:2110.02861; Dettmers, "8-Bit Approximations for
// Parallelism in Deep Learning", arXiv:1511.04561.
#pragma once

#include <bit>
#include <cstdint>

#include <longspan/core/types.hpp>

namespace longspan {

/// The format, as a type: what `ls::moments<ls::eight_bit>` names.
struct eight_bit {
    static constexpr const char* name = "eight_bit";
    static constexpr index block = 256;  ///< elements that share one scale
};

/// The scale of a block whose largest magnitude is `largest`: itself, but 0 where it is subnormal (its reciprocal would be infinite)
/// and finite where it is not.
LONGSPAN_HD [[nodiscard]] constexpr float eight_bit_scale(float largest) {
    constexpr float most = 0x1.fffffep127f, least = 0x1p-126f;
    return largest < least ? 0.0f : largest < most ? largest : most;
}
/// What elements are multiplied by before they are coded.
LONGSPAN_HD [[nodiscard]] constexpr float eight_bit_inverse(float scale) { return scale > 0 ? 1.0f / scale : 0.0f; }

/// The 256 values. A *rank* is a value's place in their order, a *code* what is stored.
template <bool Signed>
struct dynamic_values {
    static constexpr int first_bits = Signed ? 6 : 7;  ///< n of the uppermost decade
    static constexpr int zero = Signed ? 127 : 0;      ///< the rank of 0
    static constexpr int decades = 7;

    LONGSPAN_HD [[nodiscard]] static constexpr std::uint8_t code_of(int rank) { return static_cast<std::uint8_t>(rank - zero); }
    LONGSPAN_HD [[nodiscard]] static constexpr int rank_of(std::uint8_t code) { return (code + zero) & 255; }

    /// The value of a rank, 0 ≤ rank < 256. One division of two exact floats: no compiler can make other bits of it.
    LONGSPAN_HD [[nodiscard]] static constexpr float value(int rank) {
        if (rank == zero) return 0;
        if (rank == 255) return 1;
        const bool negative = rank < zero;
        // The leading bit of u says the decade, the bits behind it f.
        const int u = (negative ? zero - rank : rank - zero) + (Signed ? 0 : 1);
        int n = first_bits;
        float tens = 20;
        for (; u >> n == 0; --n) tens *= 10;
        const int f = u - (1 << n);
        const float size = static_cast<float>((2 << n) + 9 * (2 * f + 1)) / (tens * static_cast<float>(1 << n));
        return negative ? -size : size;
    }
    /// The least float that is nearer to this rank's value than to the one below, 1 ≤ rank < 256; half-way counts as nearer.
    LONGSPAN_HD [[nodiscard]] static constexpr float threshold(int rank) {
        if (!Signed && rank == 1) return 0x1p-149f;  // what is above 0 does not become 0
        const double middle = (static_cast<double>(value(rank - 1)) + static_cast<double>(value(rank))) * 0.5;
        const float near = static_cast<float>(middle);
        if (static_cast<double>(near) >= middle) return near;
        const std::uint32_t bits = std::bit_cast<std::uint32_t>(near);
        return std::bit_cast<float>(near < 0 ? bits - 1 : bits + 1);
    }

    /// The rank whose value is nearest to x, a multiple of the scale in [−1, 1]; what lies outside becomes the outermost. `thresholds`:
    /// those of the ranks, from rank 0 on (whose own is not read).
    LONGSPAN_HD [[nodiscard]] static constexpr int nearest(float x, const float* thresholds) {
        const float size = x < 0 ? -x : x;
        // f by arithmetic: right or, beside a threshold and between decades, one off.
        float cells = static_cast<float>(1 << first_bits), slope = cells / 0.9f;
        float edge = 0.1f;
        for (int k = 0; k < decades - 1; ++k, edge *= 0.1f) {
            const bool below = size < edge;
            cells = below ? cells * 0.5f : cells;
            slope = below ? slope * 5.0f : slope;
        }
        const float cell = size * slope - cells / 9.0f;
        const float inside = cell > 0 ? (cell < cells - 1 ? cell : cells - 1) : 0.0f;  // a NaN gives 0
        const int u = static_cast<int>(cells) + static_cast<int>(inside) - (Signed ? 0 : 1);
        const int guess = x < 0 ? zero - u : zero + u;
        const int next = guess < 255 ? guess + 1 : 255;
        const int below = guess > 0 && x < thresholds[guess] ? 1 : 0, above = guess < 255 && x >= thresholds[next] ? 1 : 0;
        return guess - below + above;
    }
};

/// Values and thresholds of all ranks, for whoever reads them often.
template <bool Signed>
struct dynamic_table {
    float values[256], thresholds[256];

    [[nodiscard]] static constexpr dynamic_table make() {
        dynamic_table t{};
        for (int rank = 0; rank < 256; ++rank) {
            t.values[rank] = dynamic_values<Signed>::value(rank);
            t.thresholds[rank] = rank > 0 ? dynamic_values<Signed>::threshold(rank) : 0.0f;
        }
        return t;
    }
};
template <bool Signed>
inline constexpr dynamic_table<Signed> dynamic_table_of = dynamic_table<Signed>::make();

/// Blocks of `count` elements, as they are read and written on the host.
template <bool Signed>
struct eight_bit_block {
    using codes = dynamic_values<Signed>;

    [[nodiscard]] static constexpr float decoded(std::uint8_t code, float scale) { return dynamic_table_of<Signed>.values[codes::rank_of(code)] * scale; }
    /// Returns the block's scale.
    static constexpr float encode(const float* from, index count, std::uint8_t* to) {
        float largest = 0;
        for (index i = 0; i < count; ++i) {
            const float size = Signed && from[i] < 0 ? -from[i] : from[i];
            largest = size > largest ? size : largest;
        }
        const float scale = eight_bit_scale(largest), inverse = eight_bit_inverse(scale);
        for (index i = 0; i < count; ++i) to[i] = codes::code_of(codes::nearest(from[i] * inverse, dynamic_table_of<Signed>.thresholds));
        return scale;
    }
};

}  // namespace longspan
