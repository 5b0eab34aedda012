// SPDX-License-Identifier: Apache-2.0
//
// 64 bytes of numbers in registers: 16 floats or 8 doubles, whatever the machine's registers hold (one of AVX-512, two of AVX2,
// four of SSE2 or NEON). The lane count is a constant of the library, not of the machine, so a sum over a row adds in the same
// order everywhere, and one register's worth of a row's tail goes through the same instructions as its middle: a value's bits
// depend neither on its place in the row nor on the buffer's address.
//
// A product is always rounded on its own: `a * b + c` stays two roundings whatever the compiler's contraction setting, and one
// rounding is written fma(a, b, c). That is what lets two functions that inline the same expression agree to the bit.
// (g++ contracts a*b + c in plain scalar code; write std::fma there, too, where bits matter.)
#pragma once

#include <cstring>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/precision/format.hpp>

#if defined(__FAST_MATH__)
#error "longspan: -ffast-math reorders sums and drops NaN and infinity; compile without it (the kernels use fma where it helps)"
#endif

#define LONGSPAN_INLINE [[gnu::always_inline]] inline

namespace longspan::host {

namespace detail {

#if defined(__AVX512F__)
inline constexpr int register_bytes = 64;
#elif defined(__AVX__)
inline constexpr int register_bytes = 32;
#else
inline constexpr int register_bytes = 16;
#endif

template <class T>
using lane_integer = std::conditional_t<sizeof(T) == 4, std::int32_t, std::int64_t>;

template <class T>
using lane_word = std::conditional_t<sizeof(T) == 4, std::uint32_t, std::uint64_t>;

/// One machine register of T.
template <class T>
struct register_of {
    typedef T type __attribute__((vector_size(register_bytes)));
};
template <class T>
using register_t = typename register_of<T>::type;

}  // namespace detail

/// What a comparison of packs gives: all ones or all zeros in each lane. Combine with & | ~, use with select.
template <class T>
struct pack_mask {
    static constexpr int registers = 64 / detail::register_bytes;
    using register_type = detail::register_t<detail::lane_integer<T>>;
    register_type part[registers];

    LONGSPAN_INLINE friend pack_mask operator&(pack_mask a, pack_mask b) {
        for (int i = 0; i < registers; ++i) a.part[i] &= b.part[i];
        return a;
    }
    LONGSPAN_INLINE friend pack_mask operator|(pack_mask a, pack_mask b) {
        for (int i = 0; i < registers; ++i) a.part[i] |= b.part[i];
        return a;
    }
    LONGSPAN_INLINE friend pack_mask operator~(pack_mask a) {
        for (int i = 0; i < registers; ++i) a.part[i] = ~a.part[i];
        return a;
    }
};

/// 64 bytes of T (float or double). An aggregate without initial value; make one with broadcast, load or zero.
template <class T>
    requires std::is_floating_point_v<T>
struct pack {
    static constexpr int lanes = 64 / sizeof(T);
    static constexpr int registers = 64 / detail::register_bytes;
    static constexpr int lanes_each = lanes / registers;
    using register_type = detail::register_t<T>;
    using integer_type = detail::register_t<detail::lane_integer<T>>;
    using mask = pack_mask<T>;

    register_type part[registers];

    [[nodiscard]] LONGSPAN_INLINE static pack broadcast(T value) {
        pack r;
        for (int i = 0; i < registers; ++i) r.part[i] = value - register_type{};
        return r;
    }
    [[nodiscard]] LONGSPAN_INLINE static pack zero() { return broadcast(T(0)); }

    /// The `lanes` values at `from`, of any storage format that computes in T; unaligned.
    template <class S>
    [[nodiscard]] LONGSPAN_INLINE static pack load(const S* from);
    /// The first `count` values at `from` (0 ≤ count ≤ lanes), `pad` in the other lanes; reads nothing beyond them.
    template <class S>
    [[nodiscard]] LONGSPAN_INLINE static pack load(const S* from, index count, T pad = T(0));
    /// Writes all lanes, rounding to nearest even.
    template <class S>
    LONGSPAN_INLINE void store(S* to) const;
    /// Writes the first `count` lanes and nothing else.
    template <class S>
    LONGSPAN_INLINE void store(S* to, index count) const;

    /// One lane; for tests and scalar ends, not for loops.
    [[nodiscard]] LONGSPAN_INLINE T operator[](int lane) const { return part[lane / lanes_each][lane % lanes_each]; }

    LONGSPAN_INLINE friend pack operator+(pack a, pack b) {
        for (int i = 0; i < registers; ++i) a.part[i] = a.part[i] + b.part[i];
        return a;
    }
    LONGSPAN_INLINE friend pack operator-(pack a, pack b) {
        for (int i = 0; i < registers; ++i) a.part[i] = a.part[i] - b.part[i];
        return a;
    }
    LONGSPAN_INLINE friend pack operator-(pack a) {
        for (int i = 0; i < registers; ++i) a.part[i] = -a.part[i];
        return a;
    }
    LONGSPAN_INLINE friend pack operator*(pack a, pack b) {
        for (int i = 0; i < registers; ++i) {
            a.part[i] = a.part[i] * b.part[i];
            // No instruction: it hides from g++ that this is a product, so that no later sum swallows its rounding.
#if defined(__GNUC__) && !defined(__clang__) && defined(__AVX512F__)
            asm("" : "+v"(a.part[i]));
#elif defined(__GNUC__) && !defined(__clang__) && defined(__SSE2__)
            asm("" : "+x"(a.part[i]));
#elif defined(__GNUC__) && !defined(__clang__) && defined(__aarch64__)
            asm("" : "+w"(a.part[i]));
#endif
        }
        return a;
    }
    LONGSPAN_INLINE friend pack operator/(pack a, pack b) {
        for (int i = 0; i < registers; ++i) a.part[i] = a.part[i] / b.part[i];
        return a;
    }
    LONGSPAN_INLINE pack& operator+=(pack b) { return *this = *this + b; }
    LONGSPAN_INLINE pack& operator-=(pack b) { return *this = *this - b; }
    LONGSPAN_INLINE pack& operator*=(pack b) { return *this = *this * b; }

    LONGSPAN_INLINE friend mask operator<(pack a, pack b) {
        mask r;
        for (int i = 0; i < registers; ++i) r.part[i] = a.part[i] < b.part[i];
        return r;
    }
    LONGSPAN_INLINE friend mask operator<=(pack a, pack b) {
        mask r;
        for (int i = 0; i < registers; ++i) r.part[i] = a.part[i] <= b.part[i];
        return r;
    }
    LONGSPAN_INLINE friend mask operator>(pack a, pack b) { return b < a; }
    LONGSPAN_INLINE friend mask operator>=(pack a, pack b) { return b <= a; }
    LONGSPAN_INLINE friend mask operator==(pack a, pack b) {
        mask r;
        for (int i = 0; i < registers; ++i) r.part[i] = a.part[i] == b.part[i];
        return r;
    }
};

/// The pack that arithmetic on values stored as S is done in.
template <class S>
using pack_of = pack<compute_t<S>>;

/// where ? a : b, lane by lane.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> select(pack_mask<T> where, pack<T> a, pack<T> b) {
    for (int i = 0; i < pack<T>::registers; ++i) a.part[i] = where.part[i] ? a.part[i] : b.part[i];
    return a;
}

/// a > b ? a : b. A NaN in b is returned, one in a is not: max(limit, x) keeps the NaN of x.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> max(pack<T> a, pack<T> b) {
    return select(a > b, a, b);
}
/// a < b ? a : b. A NaN in b is returned, one in a is not.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> min(pack<T> a, pack<T> b) {
    return select(a < b, a, b);
}

/// a·b + c rounded once.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> fma(pack<T> a, pack<T> b, pack<T> c);

/// |a|.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> abs(pack<T> a);

/// |magnitude| with the sign bit of `sign`.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> copysign(pack<T> magnitude, pack<T> sign);

template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> sqrt(pack<T> a);

/// The sum of all lanes by halving: lane i takes lane i + n/2 at n = lanes, lanes/2, …, 2.
template <class T>
[[nodiscard]] LONGSPAN_INLINE T sum(pack<T> a);

/// The largest lane, by the same tree (a NaN may be lost: test for it with a sum).
template <class T>
[[nodiscard]] LONGSPAN_INLINE T max(pack<T> a);

}  // namespace longspan::host

#include <longspan/host/detail/pack.hpp>
