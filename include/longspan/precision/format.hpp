// SPDX-License-Identifier: Apache-2.0
//
// What a number looks like in memory, and what arithmetic is done in: `format<T>` for T in float, double, bf16, fp16 and the
// operand-only tf32_format. Every op reads with `to_compute`, works in `compute_t<T>` and writes with `from_compute<T>`, which
// rounds to nearest even, once. A residual stream may also be in fixed point (`stream_format`), which ops read alike.
#pragma once

#include <concepts>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/precision/bf16.hpp>
#include <longspan/precision/fixed_point.hpp>
#include <longspan/precision/fp16.hpp>
#include <longspan/precision/tf32.hpp>

namespace longspan {

/// `compute`: the type of its arithmetic. `epsilon`: distance from 1 to the next value. `maximum`: the largest finite value.
template <class T>
struct format;

template <>
struct format<float> {
    using compute = float;
    static constexpr const char* name = "fp32";
    static constexpr bytes size = 4;
    static constexpr double epsilon = 0x1p-23, maximum = 0x1.fffffep127;
};
template <>
struct format<double> {
    using compute = double;
    static constexpr const char* name = "fp64";
    static constexpr bytes size = 8;
    static constexpr double epsilon = 0x1p-52, maximum = 0x1.fffffffffffffp1023;
};
template <>
struct format<bf16> {
    using compute = float;
    static constexpr const char* name = "bf16";
    static constexpr bytes size = 2;
    static constexpr double epsilon = 0x1p-7, maximum = 0x1.fep127;
};
template <>
struct format<fp16> {
    using compute = float;
    static constexpr const char* name = "fp16";
    static constexpr bytes size = 2;
    static constexpr double epsilon = 0x1p-10, maximum = 65504.0;
};
template <>
struct format<tf32_format> {
    using compute = float;
    static constexpr const char* name = "tf32";
    static constexpr bytes size = 4;
    static constexpr double epsilon = 0x1p-10, maximum = 0x1.ffcp127;
};

template <class Units, int Fraction>
struct format<fixed_point<Units, Fraction>> {
    using compute = typename fixed_point<Units, Fraction>::compute;
    static constexpr const char* name = sizeof(Units) == 4 ? "fixed32" : "fixed64";
    static constexpr bytes size = sizeof(Units);
};

/// A type that tensors may be stored in.
template <class T>
concept storage_format = std::same_as<T, float> || std::same_as<T, double> || std::same_as<T, bf16> || std::same_as<T, fp16>;

/// A type that the residual stream may be stored in.
template <class T>
concept stream_format = storage_format<T> || fixed_format<T>;

/// A format that a product's operands may be rounded to.
template <class T>
concept operand_format = storage_format<T> || std::same_as<T, tf32_format>;

/// The type that values of format T are computed in: double for double, float for all others.
template <class T>
    requires operand_format<std::remove_cv_t<T>> || fixed_format<std::remove_cv_t<T>>
using compute_t = typename format<std::remove_cv_t<T>>::compute;

/// The exact value of what is stored; of fixed point the nearest.
template <stream_format T>
LONGSPAN_HD [[nodiscard]] constexpr compute_t<T> to_compute(T stored) {
    return static_cast<compute_t<T>>(stored);
}

/// The nearest stored value, ties to even.
template <storage_format T>
LONGSPAN_HD [[nodiscard]] constexpr T from_compute(compute_t<T> value) {
    return static_cast<T>(value);
}

/// `value` rounded to format F and back: what a tensor core would read.
template <operand_format F>
LONGSPAN_HD [[nodiscard]] constexpr compute_t<F> round_to(compute_t<F> value) {
    if constexpr (std::same_as<F, tf32_format>) {
        return tf32_format::round(value);
    } else {
        return to_compute(from_compute<F>(value));
    }
}

}  // namespace longspan
