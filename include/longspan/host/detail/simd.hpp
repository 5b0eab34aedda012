// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/simd.hpp. Coefficients are grouped by format; the shapes of the algorithms are shared by float and double.
#pragma once

#include <longspan/host/simd.hpp>

namespace longspan::host {

namespace detail {

/// c[0]·x^(n-1) + … + c[n-1] by Horner.
template <class T, int N>
[[nodiscard]] LONGSPAN_INLINE pack<T> polynomial(pack<T> x, const T (&c)[N]) {
    pack<T> r = pack<T>::broadcast(c[0]);
    for (int i = 1; i < N; ++i) r = host::fma(r, x, pack<T>::broadcast(c[i]));
    return r;
}

template <class T>
struct constants;

template <>
struct constants<float> {
    static constexpr int mantissa = 23;
    static constexpr float to_integer = 0x1.8p23f;  // adding it leaves the nearest whole number in the low mantissa bits
    static constexpr float log2_e = 1.44269504088896341f, ln_2 = 0.693147180559945309f;
    static constexpr float exp_low = -87.3365f, exp_high = 88.7228317f;  // beyond: subnormal, or above the largest float
    static constexpr float exp2_low = -126.0f, exp2_high = 0x1.fffffep6f;
    static constexpr float ln_2_high = 0.693359375f, ln_2_low = -2.12194440e-4f;  // 9 bits: n·high is exact
    // (e^r - 1 - r) / r² on |r| ≤ ln 2 / 2.
    static constexpr float exp[] = {1.9875691500e-4f, 1.3981999507e-3f, 8.3334519073e-3f,
                                    4.1665795894e-2f, 1.6666665459e-1f, 5.0000001201e-1f};
    // log(1 + f) with s = f / (2 + f): polynomial in s², from s² on.
    static constexpr float log[] = {0.24279078841f, 0.28498786688f, 0.40000972152f, 0.66666662693f};
    static constexpr float log_ln_2_high = 6.9313812256e-01f, log_ln_2_low = 9.0580006145e-06f;
    // (tanh(x) - x) / x³ on |x| < 0.625, a quotient for double.
    static constexpr float tanh[] = {-5.70498872745e-3f, 2.06390887954e-2f, -5.37397155531e-2f, 1.33314422036e-1f,
                                     -3.33332819422e-1f};
    static constexpr float tanh_below[] = {1.0f};
};

template <>
struct constants<double> {
    static constexpr int mantissa = 52;
    static constexpr double to_integer = 0x1.8p52;
    static constexpr double log2_e = 1.44269504088896341, ln_2 = 0.693147180559945309;
    static constexpr double exp_low = -708.396, exp_high = 709.782712893383973;
    static constexpr double exp2_low = -1022.0, exp2_high = 0x1.fffffffffffffp9;
    static constexpr double ln_2_high = 6.93145751953125e-1, ln_2_low = 1.42860682030941723212e-6;
    static constexpr double exp[] = {1.0 / 6227020800, 1.0 / 479001600, 1.0 / 39916800, 1.0 / 3628800,
                                     1.0 / 362880,     1.0 / 40320,     1.0 / 5040,     1.0 / 720,
                                     1.0 / 120,        1.0 / 24,        1.0 / 6,        0.5};
    static constexpr double log[] = {1.479819860511658591e-01, 1.531383769920937332e-01, 1.818357216161805012e-01,
                                     2.222219843214978396e-01, 2.857142874366239149e-01, 3.999999999940941908e-01,
                                     6.666666666666735130e-01};
    static constexpr double log_ln_2_high = 6.93147180369123816490e-01, log_ln_2_low = 1.90821492927058770002e-10;
    static constexpr double tanh[] = {-9.64399179425052238628e-1, -9.92877231001918586564e1, -1.61468768441708447952e3};
    static constexpr double tanh_below[] = {1.0, 1.12811678491632931402e2, 2.23548839060100448583e3, 4.84406305325125486048e3};
};

/// p·2^n for p around 1, where the result is a normal number; 0 for x below `low`, infinity for x above `high`, NaN for NaN.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> scale(pack<T> p, pack<T> n_plus_to_integer, pack<T> x, T low, T high) {
    using unsigned_lanes = register_t<lane_word<T>>;  // unsigned: for x out of range this wraps, and is then selected away
    using reals = typename pack<T>::register_type;
    // The low bits of n + to_integer are those of n; the shift drops the rest.
    for (int i = 0; i < pack<T>::registers; ++i)
        p.part[i] = reinterpret<reals>(reinterpret<unsigned_lanes>(p.part[i]) +
                                       (reinterpret<unsigned_lanes>(n_plus_to_integer.part[i]) << constants<T>::mantissa));
    const pack<T> beyond = x + pack<T>::broadcast(static_cast<T>(__builtin_inf()));
    p = select(x <= pack<T>::broadcast(high), p, beyond);
    return select(x < pack<T>::broadcast(low), pack<T>::zero(), p);
}

/// e^r for |r| ≤ ln 2 / 2, a little more.
template <class T>
[[nodiscard]] LONGSPAN_INLINE pack<T> exp_reduced(pack<T> r) {
    return host::fma(polynomial(r, constants<T>::exp), r * r, r) + pack<T>::broadcast(T(1));
}

}  // namespace detail

template <class T>
LONGSPAN_INLINE pack<T> exp(pack<T> x) {
    using k = detail::constants<T>;
    const pack<T> shifted = fma(x, pack<T>::broadcast(k::log2_e), pack<T>::broadcast(k::to_integer));
    const pack<T> n = shifted - pack<T>::broadcast(k::to_integer);
    pack<T> r = fma(n, pack<T>::broadcast(-k::ln_2_high), x);
    r = fma(n, pack<T>::broadcast(-k::ln_2_low), r);
    return detail::scale(detail::exp_reduced(r), shifted, x, k::exp_low, k::exp_high);
}

template <class T>
LONGSPAN_INLINE pack<T> exp2(pack<T> x) {
    using k = detail::constants<T>;
    const pack<T> shifted = x + pack<T>::broadcast(k::to_integer);
    const pack<T> r = (x - (shifted - pack<T>::broadcast(k::to_integer))) * pack<T>::broadcast(k::ln_2);
    return detail::scale(detail::exp_reduced(r), shifted, x, k::exp2_low, k::exp2_high);
}

template <class T>
LONGSPAN_INLINE pack<T> log(pack<T> x) {
    using k = detail::constants<T>;
    using integers = typename pack<T>::integer_type;
    using reals = typename pack<T>::register_type;
    using word = detail::lane_word<T>;
    using unsigned_lanes = detail::register_t<word>;
    const auto constant = [](T value) __attribute__((always_inline)) { return pack<T>::broadcast(value); };
    const T smallest_normal = sizeof(T) == 4 ? T(0x1p-126) : T(0x1p-1022);
    const T infinity = static_cast<T>(__builtin_inf());
    // A subnormal gets 2^54 more, its exponent 54 less.
    const pack_mask<T> subnormal = x < constant(smallest_normal);
    const pack<T> scaled = select(subnormal, x * constant(T(0x1p54)), x);
    // scaled = 2^n · m with m in [√½, √2).
    const word root = std::bit_cast<word>(static_cast<T>(0.70710678118654752440));
    pack<T> n, m;
    for (int i = 0; i < pack<T>::registers; ++i) {
        const unsigned_lanes bits = detail::reinterpret<unsigned_lanes>(scaled.part[i]);
        const integers exponent = detail::reinterpret<integers>(bits - root) >> k::mantissa;
        m.part[i] = detail::reinterpret<reals>(bits - (detail::reinterpret<unsigned_lanes>(exponent) << k::mantissa));
        n.part[i] = __builtin_convertvector(exponent, reals);
    }
    n = select(subnormal, n - constant(T(54)), n);
    const pack<T> f = m - constant(T(1));
    const pack<T> s = f / (m + constant(T(1)));
    const pack<T> z = s * s;
    const pack<T> r = z * detail::polynomial(z, k::log);
    const pack<T> half_square = (f * f) * constant(T(0.5));
    // n·ln2 + f - f²/2 + s·(f²/2 + r), small terms first.
    const pack<T> small = fma(s, half_square + r, n * constant(k::log_ln_2_low));
    const pack<T> value = fma(n, constant(k::log_ln_2_high), f - (half_square - small));
    pack<T> edge = select(x == pack<T>::zero(), constant(-infinity), value);
    edge = select(x == constant(infinity), x, edge);
    return select(x >= pack<T>::zero(), edge, constant(static_cast<T>(__builtin_nan(""))));
}

template <class T>
LONGSPAN_INLINE pack<T> tanh(pack<T> x) {
    using k = detail::constants<T>;
    const pack<T> one = pack<T>::broadcast(T(1)), two = pack<T>::broadcast(T(2));
    const pack<T> size = abs(x);
    const pack<T> far = one - two / (exp(size + size) + one);
    const pack<T> z = x * x;
    pack<T> quotient = detail::polynomial(z, k::tanh);
    if constexpr (sizeof(T) == 8) quotient = quotient / detail::polynomial(z, k::tanh_below);
    const pack<T> near = fma(quotient * z, x, x);
    return copysign(select(size < pack<T>::broadcast(T(0.625)), near, far), x);  // of -0, too
}

template <class T>
LONGSPAN_INLINE pack<T> sigmoid(pack<T> x) {
    const pack<T> one = pack<T>::broadcast(T(1));
    const pack<T> e = exp(-abs(x)), d = one + e;
    const pack_mask<T> negative = x < pack<T>::zero();
    const pack<T> q = select(negative, e, one) / d;
    // What d lost in rounding, times the quotient's slope in d.
    const pack<T> lost = e - (d - one);
    const pack<T> inverse = select(negative, one - q, q);
    return fma(-(q * lost), inverse, q);
}

template <class T>
LONGSPAN_INLINE pack<T> erf(pack<T> x) {
    if constexpr (sizeof(T) == 8) {
        T lane[pack<T>::lanes];
        x.store(lane);
        for (T& value : lane) value = __builtin_erf(value);
        return pack<T>::load(lane);
    } else {
        const pack<T> t = abs(x), s = x * x;
        constexpr T inner[] = {-5.96761703e-4f, 4.99119423e-3f,  -2.67681349e-2f,
                               1.12819925e-1f,  -3.76125336e-1f, 1.28379166e-1f};
        constexpr T outer[] = {-1.72853470e-5f, 3.83197126e-4f,  -3.88396438e-3f, 2.42546219e-2f,
                               -1.06777877e-1f, -6.34846687e-1f, -1.28717512e-1f};
        const pack<T> near = fma(detail::polynomial(s, inner), x, x);
        // 1 - e^(-t - t·outer(t)); beyond 9 it is 1, and the clamp keeps ∞ - ∞ out.
        const pack<T> u = min(pack<T>::broadcast(9.0f), t);
        const pack<T> far = pack<T>::broadcast(1.0f) - exp(fma(detail::polynomial(u, outer), u, -u));
        return select(t > pack<T>::broadcast(0.927734375f), copysign(far, x), near);
    }
}

template <class T>
LONGSPAN_INLINE pack<T> normal_cdf(pack<T> x) {
    const pack<T> half = pack<T>::broadcast(T(0.5));
    return fma(half, erf(x * pack<T>::broadcast(T(0.70710678118654752440))), half);
}

}  // namespace longspan::host
