// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <initializer_list>
#include <limits>
#include <vector>

#include <longspan/host/simd.hpp>

namespace ls = longspan;
using ls::host::pack;

namespace {

template <class T>
constexpr T infinity = std::numeric_limits<T>::infinity();

/// |got - want| in units of the last place of T at want.
template <class T>
double units(T got, long double want) {
    if (static_cast<long double>(got) == want || (std::isinf(got) && got == static_cast<T>(want))) return 0;
    int exponent = 0;
    (void)std::frexp(want, &exponent);
    const long double unit =
        std::ldexp(1.0L, std::max(exponent, std::numeric_limits<T>::min_exponent) - std::numeric_limits<T>::digits);
    const double error = static_cast<double>(std::abs(static_cast<long double>(got) - want) / unit);
    return std::isnan(error) ? std::numeric_limits<double>::infinity() : error;
}

/// The worst error over evenly spread points of [low, high], none of them round.
template <class T, class F, class Reference>
double worst(F f, Reference reference, double low, double high) {
    constexpr int n = pack<T>::lanes, points = sizeof(T) == 4 ? 65536 : 16384;
    double error = 0;
    for (int i = 0; i < points; i += n) {
        T x[n], y[n];
        for (int j = 0; j < n; ++j) x[j] = static_cast<T>(low + (high - low) * ((i + j + 0.6180339887) / points));
        f(pack<T>::load(x)).store(y);
        for (int j = 0; j < n; ++j) error = std::max(error, units(y[j], reference(static_cast<long double>(x[j]))));
    }
    return error;
}

template <class T>
T one(pack<T> (*f)(pack<T>), T x) {
    return f(pack<T>::broadcast(x))[pack<T>::lanes - 1];
}

// Functions of packs have no address to take: they are always inlined.
template <class T>
pack<T> exp_of(pack<T> x) {
    return exp(x);
}
template <class T>
pack<T> exp2_of(pack<T> x) {
    return exp2(x);
}
template <class T>
pack<T> log_of(pack<T> x) {
    return log(x);
}
template <class T>
pack<T> tanh_of(pack<T> x) {
    return tanh(x);
}
template <class T>
pack<T> sigmoid_of(pack<T> x) {
    return sigmoid(x);
}
template <class T>
pack<T> erf_of(pack<T> x) {
    return erf(x);
}
template <class T>
pack<T> cdf_of(pack<T> x) {
    return normal_cdf(x);
}

template <class T>
void accuracy() {
    const auto expl = [](long double x) { return std::exp(x); };
    const auto exp2l = [](long double x) { return std::exp2(x); };
    const auto logl = [](long double x) { return std::log(x); };
    const auto tanhl = [](long double x) { return std::tanh(x); };
    const auto sigmoidl = [](long double x) { return 1 / (1 + std::exp(-x)); };
    const auto erfl = [](long double x) { return std::erf(x); };
    const double low = sizeof(T) == 4 ? -87.33 : -708.3, high = sizeof(T) == 4 ? 88.72 : 709.7;
    const double low2 = sizeof(T) == 4 ? -126.0 : -1022.0, high2 = sizeof(T) == 4 ? 127.99 : 1023.9;
    CHECK(worst<T>(exp_of<T>, expl, low, high) < 2);
    CHECK(worst<T>(exp_of<T>, expl, -1, 1) < 2);
    CHECK(worst<T>(exp2_of<T>, exp2l, low2, high2) < 2);
    CHECK(worst<T>(exp2_of<T>, exp2l, -1, 1) < 2);
    CHECK(worst<T>(log_of<T>, logl, 0, 4) < 2);
    CHECK(worst<T>(log_of<T>, logl, 0.99, 1.01) < 2);
    CHECK(worst<T>(log_of<T>, logl, 0, sizeof(T) == 4 ? 1e38 : 1e300) < 2);
    CHECK(worst<T>(log_of<T>, logl, 0, sizeof(T) == 4 ? 1e-38 : 1e-308) < 2);  // subnormals
    CHECK(worst<T>(tanh_of<T>, tanhl, -1.3, 1.3) < 2);
    CHECK(worst<T>(tanh_of<T>, tanhl, -20, 20) < 2);
    CHECK(worst<T>(sigmoid_of<T>, sigmoidl, -87, 87) < 2);
    CHECK(worst<T>(sigmoid_of<T>, sigmoidl, -6, 6) < 2);
    CHECK(worst<T>(erf_of<T>, erfl, -1.2, 1.2) < 2);
    CHECK(worst<T>(erf_of<T>, erfl, -7, 7) < 2);
}

template <class T>
void edges() {
    const T nan = std::numeric_limits<T>::quiet_NaN(), inf = infinity<T>, huge = std::numeric_limits<T>::max();
    CHECK(one(exp_of<T>, -inf) == 0);
    CHECK(one(exp_of<T>, inf) == inf);
    CHECK(one(exp_of<T>, huge) == inf);
    CHECK(one(exp_of<T>, -huge) == 0);
    CHECK(one(exp_of<T>, T(0)) == 1);
    CHECK(std::isnan(one(exp_of<T>, nan)));
    for (const int n : {-126, -100, -1, 0, 1, 10, 127}) CHECK(one(exp2_of<T>, static_cast<T>(n)) == std::ldexp(T(1), n));
    CHECK(one(exp2_of<T>, -inf) == 0);
    CHECK(one(exp2_of<T>, inf) == inf);
    CHECK(one(exp2_of<T>, T(std::numeric_limits<T>::max_exponent)) == inf);
    CHECK(std::isnan(one(exp2_of<T>, nan)));
    CHECK(one(log_of<T>, T(0)) == -inf);
    CHECK(one(log_of<T>, T(1)) == 0);
    CHECK(one(log_of<T>, inf) == inf);
    CHECK(std::isnan(one(log_of<T>, T(-1))));
    CHECK(std::isnan(one(log_of<T>, nan)));
    CHECK(one(tanh_of<T>, inf) == 1);
    CHECK(one(tanh_of<T>, -inf) == -1);
    CHECK(std::isnan(one(tanh_of<T>, nan)));
    CHECK(std::signbit(one(tanh_of<T>, T(-0.0))));
    CHECK(one(sigmoid_of<T>, inf) == 1);
    CHECK(one(sigmoid_of<T>, -inf) == 0);
    CHECK(one(sigmoid_of<T>, T(0)) == T(0.5));
    CHECK(std::isnan(one(sigmoid_of<T>, nan)));
    CHECK(one(erf_of<T>, inf) == 1);
    CHECK(one(erf_of<T>, -inf) == -1);
    CHECK(std::isnan(one(erf_of<T>, nan)));
    CHECK(one(cdf_of<T>, T(0)) == T(0.5));
    CHECK(one(cdf_of<T>, -inf) == 0);
}

}  // namespace

TEST_CASE("simd: elementary functions are within 2 units in the last place") {
    accuracy<float>();
    accuracy<double>();
}

TEST_CASE("simd: infinities, NaN and zeros") {
    edges<float>();
    edges<double>();
}

TEST_CASE("simd: exp of a float is monotone to its limits, and never a subnormal") {
    float before = 0;
    for (float x = -90.0f; x < 89.0f; x += 0.001f) {
        const float y = one(exp_of<float>, x);
        REQUIRE(y >= before * (1 - 0x1p-22f));
        REQUIRE((y == 0 || y >= std::numeric_limits<float>::min()));
        before = y;
    }
    CHECK(before == infinity<float>);
    CHECK(one(exp_of<float>, 88.72283f) < infinity<float>);
    CHECK(one(exp_of<float>, 88.72284f) == infinity<float>);
}

TEST_CASE("simd: the bits are these, on every compiler and instruction set") {
    std::uint64_t hash = 14695981039346656037ull;
    for (int i = 0; i < 4096; ++i) {
        float x[16], y[16];
        for (int j = 0; j < 16; ++j) x[j] = static_cast<float>(16 * i + j) * 0x1p-11f - 15.9f;
        const auto p = pack<float>::load(x);
        for (const auto& value : {exp(p), exp2(p), log(abs(p)), tanh(p), sigmoid(p), erf(p), normal_cdf(p)}) {
            value.store(y);
            for (const float v : y) hash = (hash ^ std::bit_cast<std::uint32_t>(v)) * 1099511628211ull;
        }
        double u[8], v[8];
        for (int j = 0; j < 8; ++j) u[j] = (8 * i + j) * 0x1p-10 - 15.9;
        const auto q = pack<double>::load(u);
        for (const auto& value : {exp(q), exp2(q), log(abs(q)), tanh(q), sigmoid(q)}) {
            value.store(v);
            for (const double w : v) hash = (hash ^ std::bit_cast<std::uint64_t>(w)) * 1099511628211ull;
        }
    }
    CHECK(hash == 4495046838337023327ull);
}

TEST_CASE("simd: a value's bits do not depend on its lane") {
    for (int i = 0; i < 2000; ++i) {
        const float x = static_cast<float>(i) * 0.0137f - 13.0f;
        float lanes[16], y[16];
        for (float& v : lanes) v = static_cast<float>(i % 7) - 3.0f;
        lanes[i % 16] = x;
        tanh(exp(pack<float>::load(lanes))).store(y);
        REQUIRE(y[i % 16] == tanh(exp(pack<float>::broadcast(x)))[0]);
    }
}
