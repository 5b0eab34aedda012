// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/pack.hpp: conversions between registers and memory of every storage format, and the operations for which the
// vector extensions have no operator.
#pragma once


#include <longspan/host/pack.hpp>

namespace longspan::host {

namespace detail {

template <class To, class From>
[[nodiscard]] LONGSPAN_INLINE To reinterpret(From from) {
    static_assert(sizeof(To) == sizeof(From));
    return reinterpret_cast<To>(from);
}

/// The value in every lane. A function, since a variable that starts as `constant - Register{}` crashes nvcc 13.0 (cicc) where
/// registers have 64 bytes.
template <class Register, class T>
[[nodiscard]] LONGSPAN_INLINE Register filled(T value) {
    return value - Register{};
}

// Two-byte formats: a register of floats faces half a register of 16-bit patterns.
typedef std::uint16_t patterns __attribute__((vector_size(register_bytes / 2)));
typedef std::int16_t register_half __attribute__((vector_size(register_bytes / 2)));
using words = register_t<std::uint32_t>;

[[nodiscard]] LONGSPAN_INLINE words widen(patterns stored) {
#if defined(__AVX512F__) && !defined(__clang__)  // g++ 12 makes two halves of the conversion
    return reinterpret<words>(__builtin_ia32_pmovzxwd512_mask(reinterpret<register_half>(stored), register_t<std::int32_t>{},
                                                              static_cast<unsigned short>(-1)));
#else
    return __builtin_convertvector(stored, words);
#endif
}

template <class S>
[[nodiscard]] LONGSPAN_INLINE register_t<float> decode(patterns stored) {
    const words bits = widen(stored);
    if constexpr (std::same_as<S, bf16>) {
        return reinterpret<register_t<float>>(bits << 16);
    } else {
        // fp16::decode, lane by lane.
        const words magnitude = bits & 0x7fffu;
        const words normal = (magnitude << 13) + (112u << 23);
        const words payload = (magnitude << 13) | 0x7f800000u;
        const words special = magnitude > 0x7c00u ? payload | 0x00400000u : payload;
        const register_t<float> unit = filled<register_t<float>>(std::bit_cast<float>(113u << 23));
        const words subnormal = reinterpret<words>(reinterpret<register_t<float>>((magnitude << 13) + (113u << 23)) - unit);
        const words finite = magnitude < 0x0400u ? subnormal : normal;
        return reinterpret<register_t<float>>(((bits & 0x8000u) << 16) | (magnitude >= 0x7c00u ? special : finite));
    }
}

template <class S>
[[nodiscard]] LONGSPAN_INLINE patterns encode(register_t<float> value) {
    const words from = reinterpret<words>(value);
    const words magnitude = from & 0x7fffffffu;
    if constexpr (std::same_as<S, bf16>) {
        const words rounded = (from + 0x7fffu + ((from >> 16) & 1u)) >> 16;
        const words quiet = (from >> 16) | 0x0040u;
        const words chosen = magnitude > 0x7f800000u ? quiet : rounded;
        return __builtin_convertvector(chosen, patterns);
    } else {
        // fp16::encode, lane by lane.
        const words normal = (magnitude - (112u << 23) + 0x0fffu + ((magnitude >> 13) & 1u)) >> 13;
        const register_t<float> half = filled<register_t<float>>(0.5f);
        const words subnormal = reinterpret<words>(reinterpret<register_t<float>>(magnitude) + half) - 0x3f000000u;
        const words nan = ((magnitude >> 13) & 0x01ffu) | 0x7e00u;
        const words infinity = filled<words>(0x7c00u);
        const words special = magnitude > 0x7f800000u ? nan : infinity;
        const words finite = magnitude < 0x38800000u ? subnormal : normal;
        const words chosen = ((from >> 16) & 0x8000u) | (magnitude >= 0x47800000u ? special : finite);
        return __builtin_convertvector(chosen, patterns);
    }
}

[[nodiscard]] LONGSPAN_INLINE register_t<float> fma(register_t<float> a, register_t<float> b, register_t<float> c) {
#if defined(__clang__)
    return __builtin_elementwise_fma(a, b, c);
#elif defined(__AVX512F__)
    return __builtin_ia32_vfmaddps512_mask(a, b, c, -1, 4);
#elif defined(__FMA__) && defined(__AVX__)
    return __builtin_ia32_vfmaddps256(a, b, c);
#else
    for (unsigned i = 0; i < register_bytes / sizeof(float); ++i) a[i] = __builtin_fmaf(a[i], b[i], c[i]);
    return a;
#endif
}
[[nodiscard]] LONGSPAN_INLINE register_t<double> fma(register_t<double> a, register_t<double> b, register_t<double> c) {
#if defined(__clang__)
    return __builtin_elementwise_fma(a, b, c);
#elif defined(__AVX512F__)
    return __builtin_ia32_vfmaddpd512_mask(a, b, c, static_cast<unsigned char>(-1), 4);
#elif defined(__FMA__) && defined(__AVX__)
    return __builtin_ia32_vfmaddpd256(a, b, c);
#else
    for (unsigned i = 0; i < register_bytes / sizeof(double); ++i) a[i] = __builtin_fma(a[i], b[i], c[i]);
    return a;
#endif
}

[[nodiscard]] LONGSPAN_INLINE register_t<float> sqrt(register_t<float> a) {
#if defined(__clang__)
    return __builtin_elementwise_sqrt(a);
#elif defined(__AVX512F__)
    return __builtin_ia32_sqrtps512_mask(a, a, -1, 4);
#elif defined(__AVX__)
    return __builtin_ia32_sqrtps256(a);
#else
    for (unsigned i = 0; i < register_bytes / sizeof(float); ++i) a[i] = __builtin_sqrtf(a[i]);
    return a;
#endif
}
[[nodiscard]] LONGSPAN_INLINE register_t<double> sqrt(register_t<double> a) {
#if defined(__clang__)
    return __builtin_elementwise_sqrt(a);
#elif defined(__AVX512F__)
    return __builtin_ia32_sqrtpd512_mask(a, a, -1, 4);
#elif defined(__AVX__)
    return __builtin_ia32_sqrtpd256(a);
#else
    for (unsigned i = 0; i < register_bytes / sizeof(double); ++i) a[i] = __builtin_sqrt(a[i]);
    return a;
#endif
}

/// N lanes from those of a and b, a's first: lane i is lane From(i). Written out, since nvcc expands no pack inside this built-in.
template <int N, auto From, class Vector>
[[nodiscard]] LONGSPAN_INLINE auto take_lanes(Vector a, Vector b) {
    static_assert(N == 2 || N == 4 || N == 8 || N == 16, "take_lanes: registers have 2 to 16 lanes");
    if constexpr (N == 2) {
        return __builtin_shufflevector(a, b, From(0), From(1));
    } else if constexpr (N == 4) {
        return __builtin_shufflevector(a, b, From(0), From(1), From(2), From(3));
    } else if constexpr (N == 8) {
        return __builtin_shufflevector(a, b, From(0), From(1), From(2), From(3), From(4), From(5), From(6), From(7));
    } else {
        return __builtin_shufflevector(a, b, From(0), From(1), From(2), From(3), From(4), From(5), From(6), From(7), From(8), From(9),
                                       From(10), From(11), From(12), From(13), From(14), From(15));
    }
}

/// Folds N lanes by halving.
template <int N, class Vector, class Combine>
[[nodiscard]] LONGSPAN_INLINE auto fold_lanes(Vector v, Combine combine) {
    if constexpr (N == 1) {
        return v[0];
    } else if constexpr (N == 2) {
        return combine(v[0], v[1]);
    } else {
        const auto lower = take_lanes<N / 2, [](int i) { return i; }>(v, v), upper = take_lanes<N / 2, [](int i) { return i + N / 2; }>(v, v);
        return fold_lanes<N / 2>(combine(lower, upper), combine);
    }
}

/// Folds the lanes of a pack by halving, with `combine` on registers and parts of them.
template <class T, class Combine>
[[nodiscard]] LONGSPAN_INLINE T fold(pack<T> a, Combine combine) {
    for (int n = pack<T>::registers / 2; n > 0; n /= 2)
        for (int i = 0; i < n; ++i) a.part[i] = combine(a.part[i], a.part[i + n]);
    return fold_lanes<pack<T>::lanes_each>(a.part[0], combine);
}

}  // namespace detail

template <class T>
    requires std::is_floating_point_v<T>
template <class S>
LONGSPAN_INLINE pack<T> pack<T>::load(const S* from) {
    static_assert(std::is_same_v<compute_t<S>, T>, "pack<float> loads float, bf16, fp16 and fixed32; pack<double> loads double and fixed64");
    pack r;
    if constexpr (std::is_same_v<S, T>) {
        for (int i = 0; i < registers; ++i) std::memcpy(&r.part[i], from + i * lanes_each, sizeof r.part[i]);
    } else if constexpr (fixed_format<S>) {
        for (int i = 0; i < registers; ++i) {
            detail::register_t<typename S::units_type> units;
            std::memcpy(&units, from + i * lanes_each, sizeof units);
            r.part[i] = __builtin_convertvector(units, detail::register_t<T>) * S::step;
        }
    } else {
        for (int i = 0; i < registers; ++i) {
            detail::patterns stored;
            std::memcpy(&stored, from + i * lanes_each, sizeof stored);
            r.part[i] = detail::decode<S>(stored);
        }
    }
    return r;
}

template <class T>
    requires std::is_floating_point_v<T>
template <class S>
LONGSPAN_INLINE pack<T> pack<T>::load(const S* from, index count, T pad) {
    S padded[lanes];
    for (int i = 0; i < lanes; ++i) {
        if constexpr (fixed_format<S>) padded[i] = {};
        else padded[i] = from_compute<S>(pad);
    }
    std::memcpy(static_cast<void*>(padded), from, static_cast<std::size_t>(count) * sizeof(S));
    return load(padded);
}

template <class T>
    requires std::is_floating_point_v<T>
template <class S>
LONGSPAN_INLINE void pack<T>::store(S* to) const {
    static_assert(std::is_same_v<compute_t<S>, T>, "pack<float> stores to float, bf16 and fp16; pack<double> to double");
    if constexpr (std::is_same_v<S, T>) {
        for (int i = 0; i < registers; ++i) std::memcpy(to + i * lanes_each, &part[i], sizeof part[i]);
    } else {
        for (int i = 0; i < registers; ++i) {
            const detail::patterns stored = detail::encode<S>(part[i]);
            std::memcpy(static_cast<void*>(to + i * lanes_each), &stored, sizeof stored);
        }
    }
}

template <class T>
    requires std::is_floating_point_v<T>
template <class S>
LONGSPAN_INLINE void pack<T>::store(S* to, index count) const {
    S whole[lanes];
    store(whole);
    std::memcpy(static_cast<void*>(to), whole, static_cast<std::size_t>(count) * sizeof(S));
}

template <class T>
LONGSPAN_INLINE pack<T> fma(pack<T> a, pack<T> b, pack<T> c) {
    for (int i = 0; i < pack<T>::registers; ++i) a.part[i] = detail::fma(a.part[i], b.part[i], c.part[i]);
    return a;
}

template <class T>
LONGSPAN_INLINE pack<T> abs(pack<T> a) {
    using integers = typename pack<T>::integer_type;
    constexpr auto all_but_sign = sizeof(T) == 4 ? detail::lane_integer<T>(INT32_MAX) : detail::lane_integer<T>(INT64_MAX);
    for (int i = 0; i < pack<T>::registers; ++i)
        a.part[i] =
            detail::reinterpret<typename pack<T>::register_type>(detail::reinterpret<integers>(a.part[i]) & all_but_sign);
    return a;
}

template <class T>
LONGSPAN_INLINE pack<T> copysign(pack<T> magnitude, pack<T> sign) {
    using integers = typename pack<T>::integer_type;
    constexpr auto all_but_sign = sizeof(T) == 4 ? detail::lane_integer<T>(INT32_MAX) : detail::lane_integer<T>(INT64_MAX);
    for (int i = 0; i < pack<T>::registers; ++i) {
        const integers value = detail::reinterpret<integers>(magnitude.part[i]) & all_but_sign;
        const integers bit = detail::reinterpret<integers>(sign.part[i]) & ~all_but_sign;
        magnitude.part[i] = detail::reinterpret<typename pack<T>::register_type>(value | bit);
    }
    return magnitude;
}

template <class T>
LONGSPAN_INLINE pack<T> sqrt(pack<T> a) {
    for (int i = 0; i < pack<T>::registers; ++i) a.part[i] = detail::sqrt(a.part[i]);
    return a;
}

template <class T>
LONGSPAN_INLINE T sum(pack<T> a) {
    return detail::fold(a, [](auto x, auto y) __attribute__((always_inline)) { return x + y; });
}

template <class T>
LONGSPAN_INLINE T max(pack<T> a) {
    return detail::fold(a, [](auto x, auto y) __attribute__((always_inline)) { return x > y ? x : y; });
}

}  // namespace longspan::host
