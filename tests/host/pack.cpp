// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstdint>
#include <limits>
#include <vector>

#include <longspan/host/pack.hpp>

namespace ls = longspan;
using ls::host::pack;

namespace {

constexpr float nan_value = std::numeric_limits<float>::quiet_NaN(), infinity = std::numeric_limits<float>::infinity();

// Values whose sums and products round differently in each order.
template <class T>
std::vector<T> awkward(int count) {
    std::vector<T> values;
    std::uint32_t state = 7;
    for (int i = 0; i < count; ++i) {
        state = state * 1664525u + 1013904223u;
        values.push_back(static_cast<T>(static_cast<double>(state) * 0x1p-31 - 0.7));
    }
    return values;
}

template <class T>
void arithmetic() {
    constexpr int n = pack<T>::lanes;
    const auto a = awkward<T>(3 * n);
    const T *x = a.data(), *y = x + n, *z = y + n;
    const auto px = pack<T>::load(x), py = pack<T>::load(y), pz = pack<T>::load(z);
    for (int i = 0; i < n; ++i) {
        REQUIRE((px + py)[i] == x[i] + y[i]);
        REQUIRE((px - py)[i] == x[i] - y[i]);
        REQUIRE((px * py)[i] == x[i] * y[i]);
        REQUIRE((px / py)[i] == x[i] / y[i]);
        REQUIRE((-px)[i] == -x[i]);
        REQUIRE(fma(px, py, pz)[i] == std::fma(x[i], y[i], z[i]));
        REQUIRE(max(px, py)[i] == std::max(x[i], y[i]));
        REQUIRE(min(px, py)[i] == std::min(x[i], y[i]));
        REQUIRE(abs(px)[i] == std::abs(x[i]));
        REQUIRE(copysign(px, py)[i] == std::copysign(x[i], y[i]));
        REQUIRE(sqrt(abs(px))[i] == std::sqrt(std::abs(x[i])));
        REQUIRE(select(px < py, px, pz)[i] == (x[i] < y[i] ? x[i] : z[i]));
        REQUIRE(select((px > py) | ~(py >= pz), px, pz)[i] == (x[i] > y[i] || !(y[i] >= z[i]) ? x[i] : z[i]));
        REQUIRE(select((px <= py) & (py == py), px, pz)[i] == (x[i] <= y[i] ? x[i] : z[i]));
        // Two roundings, though the machine could do it with one.
        volatile T product = x[i] * y[i];
        REQUIRE((px * py + pz)[i] == product + z[i]);
        REQUIRE((pz - px * py)[i] == z[i] - product);
    }
    std::vector<T> tree(x, x + n);
    T largest = x[0];
    for (int half = n / 2; half > 0; half /= 2)
        for (int i = 0; i < half; ++i) tree[static_cast<std::size_t>(i)] += tree[static_cast<std::size_t>(i + half)];
    for (int i = 1; i < n; ++i) largest = std::max(largest, x[i]);
    CHECK(sum(px) == tree[0]);
    CHECK(max(px) == largest);
    CHECK(sum(pack<T>::broadcast(T(3))) == T(3 * n));
    CHECK(sum(pack<T>::zero()) == T(0));
}

// Every tail length at every alignment: the lanes are the values, the rest is the padding, and a guard zone stays as it was.
template <class S>
void tails() {
    using C = ls::compute_t<S>;
    constexpr int n = pack<C>::lanes;
    std::vector<S> from, to(static_cast<std::size_t>(3 * n));
    for (int i = 0; i < 3 * n; ++i) from.push_back(ls::from_compute<S>(static_cast<C>(i + 1)));
    for (int offset = 0; offset < n; ++offset)
        for (int count = 0; count <= n; ++count) {
            const auto p = pack<C>::load(from.data() + offset, count, C(-5));
            for (int i = 0; i < n; ++i) REQUIRE(p[i] == (i < count ? static_cast<C>(offset + i + 1) : C(-5)));
            for (auto& v : to) v = ls::from_compute<S>(C(99));
            p.store(to.data() + offset, count);
            for (int i = 0; i < 3 * n; ++i) {
                const bool written = i >= offset && i < offset + count;
                REQUIRE(ls::to_compute(to[static_cast<std::size_t>(i)]) == (written ? static_cast<C>(i + 1) : C(99)));
            }
        }
    const auto whole = pack<C>::load(from.data() + 1);
    whole.store(to.data() + 1);
    for (int i = 0; i < n; ++i) REQUIRE(ls::to_compute(to[static_cast<std::size_t>(i + 1)]) == static_cast<C>(i + 2));
}

// Packs convert as the scalar formats do, over every stored pattern and over ties, edges and random floats.
template <class S>
void conversions() {
    const auto bits = [](float v) { return std::bit_cast<std::uint32_t>(v); };
    S stored[16];
    float values[16];
    for (std::uint32_t first = 0; first < 65536; first += 16) {
        for (std::uint32_t i = 0; i < 16; ++i) stored[i] = S::from_bits(static_cast<std::uint16_t>(first + i));
        pack<float>::load(stored).store(values);
        for (int i = 0; i < 16; ++i) REQUIRE(bits(values[i]) == bits(static_cast<float>(stored[i])));
    }
    std::uint32_t state = 99;
    for (std::uint32_t high = 0; high < 65536; ++high) {
        constexpr std::uint32_t lows[] = {0u, 1u, 0x0fffu, 0x1000u, 0x1001u, 0x3000u, 0x7fffu, 0x8000u, 0x8001u, 0xffffu};
        for (std::uint32_t i = 0; i < 16; ++i) {
            state = state * 1664525u + 1013904223u;
            values[i] = std::bit_cast<float>((high << 16) | (i < 10 ? lows[i] : state >> 16));
        }
        pack<float>::load(values).store(stored);
        for (int i = 0; i < 16; ++i) REQUIRE(stored[i].bits == S(values[i]).bits);
    }
}

}  // namespace

TEST_CASE("pack: arithmetic is the scalars', and a product is never contracted") {
    arithmetic<float>();
    arithmetic<double>();
}

TEST_CASE("pack: tails of every length at every offset, in every format") {
    tails<float>();
    tails<double>();
    tails<ls::bf16>();
    tails<ls::fp16>();
}

TEST_CASE("pack: conversion agrees with bf16 and fp16 to the bit, NaN included") {
    conversions<ls::bf16>();
    conversions<ls::fp16>();
}

TEST_CASE("pack: min and max pass on a NaN in their second argument") {
    const auto nan = pack<float>::broadcast(nan_value), one = pack<float>::broadcast(1.0f);
    CHECK(std::isnan(max(one, nan)[3]));
    CHECK(max(nan, one)[3] == 1.0f);
    CHECK(std::isnan(min(one, nan)[3]));
    CHECK(max(pack<float>::broadcast(-infinity), one)[0] == 1.0f);
}
