// SPDX-License-Identifier: Apache-2.0
//
// Numbers whose sums can be undone: value = units · 2^-Fraction, units a whole number. What was added to one comes off again to the
// last bit, which no floating-point sum promises, so a model of two residual streams (residual_kind::two_streams) keeps them so.
//
//   format    units   step              range      beside it
//   fixed32   32 bits 2^-18 = 3.8e-6    ±4,096     bf16's step at 0.02, where an embedding starts: 1.2e-4; a float's at 32: 3.8e-6
//   fixed64   64 bits 2^-48 = 3.6e-15   ±16,384    under double
//
// The range is half of what the units could hold, so that two of them can be added without a thought. The largest activations that
// were found in residual streams of trained models lie about 2,600 (Sun et al., "Massive Activations in Large Language Models",
// arXiv:2402.17762). What would leave the range is not wrapped and not clamped: the op that meets it leaves a note (core/bad_ids.hpp)
// and the step is refused. References: Gomez et al., "The Reversible Residual Network", arXiv:1707.04585; MacKay et al. (fixed point,
// so that reversal is exact), "Reversible Recurrent Neural Networks", arXiv:1810.10999.
#pragma once

#include <concepts>
#include <type_traits>

#include <longspan/core/types.hpp>

namespace longspan {

template <std::signed_integral Units, int Fraction>
struct fixed_point {
    static_assert(sizeof(Units) == 4 || sizeof(Units) == 8, "fixed_point: units of 32 or of 64 bits");
    static_assert(Fraction > 0 && Fraction < 8 * static_cast<int>(sizeof(Units)) - 2,
                  "fixed_point: a fraction of 1 bit or more, and some for the rest");
    using units_type = Units;
    using compute = std::conditional_t<sizeof(Units) == 4, float, double>;  ///< what it is read as

    static constexpr int fraction = Fraction;
    static constexpr Units limit = Units{1} << (8 * sizeof(Units) - 2);     ///< units of a value in range are less, either way
    static constexpr compute scale = static_cast<compute>(std::int64_t{1} << Fraction);
    static constexpr compute step = 1 / scale;                              ///< from one value to the next
    static constexpr index range = static_cast<index>(limit >> Fraction);   ///< values in range are less, either way

    Units units;

    /// The nearest number of `compute`, ties to even.
    LONGSPAN_HD [[nodiscard]] explicit constexpr operator compute() const { return static_cast<compute>(units) * step; }
    friend constexpr bool operator==(fixed_point, fixed_point) = default;

    /// Sums that wrap instead of being undefined. None does as long as both are in range.
    LONGSPAN_HD [[nodiscard]] friend constexpr fixed_point operator+(fixed_point a, fixed_point b) {
        using word = std::make_unsigned_t<Units>;
        return {static_cast<Units>(static_cast<word>(a.units) + static_cast<word>(b.units))};
    }
    LONGSPAN_HD [[nodiscard]] friend constexpr fixed_point operator-(fixed_point a, fixed_point b) {
        using word = std::make_unsigned_t<Units>;
        return {static_cast<Units>(static_cast<word>(a.units) - static_cast<word>(b.units))};
    }
    LONGSPAN_HD [[nodiscard]] constexpr bool in_range() const { return -limit < units && units < limit; }
    /// Whether a number of units is; of what is not a number, false.
    LONGSPAN_HD [[nodiscard]] static constexpr bool fits(compute scaled) {
        return -static_cast<compute>(limit) < scaled && scaled < static_cast<compute>(limit);
    }
};

using fixed32 = fixed_point<std::int32_t, 18>;
using fixed64 = fixed_point<std::int64_t, 48>;

/// Which of them a stream of values of this type is kept in.
template <class Compute>
using fixed_stream = std::conditional_t<std::is_same_v<Compute, double>, fixed64, fixed32>;

namespace detail {

template <class T>
inline constexpr bool is_fixed_point = false;
template <class Units, int Fraction>
inline constexpr bool is_fixed_point<fixed_point<Units, Fraction>> = true;

}  // namespace detail

/// A format whose sums can be undone.
template <class T>
concept fixed_format = detail::is_fixed_point<std::remove_const_t<T>>;

}  // namespace longspan
