// SPDX-License-Identifier: Apache-2.0
//
// Updates of narrow state against plain loops: what the formats hold is widened, updated by adamw_step (tests/host/adamw.cpp holds it
// against double) and stored again element by element, the nearest of the 256 values searched for in double.
#include <doctest/doctest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <cstring>
#include <span>
#include <string>
#include <vector>

#include <longspan/host/adamw.hpp>
#include <longspan/host/narrow_adamw.hpp>

#include "buffers.hpp"
#include "narrow_adamw.hpp"

namespace narrow {

namespace {

constexpr philox_key key{{17, 4}};

template <class T>
bool same_bits(const std::vector<T>& a, const std::vector<T>& b) {
    return a.size() == b.size() && (a.empty() || std::memcmp(a.data(), b.data(), a.size() * sizeof(T)) == 0);
}
template <class State>
bool same(const State& a, const State& b) {
    return same_bits(a.masters, b.masters) && same_bits(a.weights, b.weights) && same_bits(a.first, b.first) && same_bits(a.second, b.second) &&
           same_bits(a.first_scales, b.first_scales) && same_bits(a.second_scales, b.second_scales);
}

bf16 drawn(float value, index element, rounded_tensor which) {
    const philox_block block = philox4x32({{static_cast<std::uint32_t>(element / 8), 0, 1 + static_cast<std::uint32_t>(which), 2}}, key);
    const std::uint32_t low = (block.word[element % 8 / 2] >> (element % 2 * 16)) & 0xffff;
    return bf16::from_bits(static_cast<std::uint16_t>((std::bit_cast<std::uint32_t>(value) + low) >> 16));
}

template <bool Signed>
std::uint8_t code_in_double(double x) {
    const auto& values = dynamic_table_of<Signed>.values;
    int best = 255;
    for (int rank = 254; rank >= (!Signed && x > 0 ? 1 : 0); --rank)
        if (std::abs(x - static_cast<double>(values[rank])) < std::abs(x - static_cast<double>(values[best]))) best = rank;
    return static_cast<std::uint8_t>(best - (Signed ? 127 : 0));
}

template <rounded_tensor Which, class Stored>
std::vector<float> widened(const std::vector<Stored>& stored, const std::vector<float>& scales) {
    constexpr bool is_signed = Which == rounded_tensor::first_moment;
    std::vector<float> x(stored.size());
    for (std::size_t i = 0; i < x.size(); ++i) {
        if constexpr (std::is_same_v<Stored, std::uint8_t>) x[i] = dynamic_table_of<is_signed>.values[(stored[i] + (is_signed ? 127 : 0)) % 256] * scales[i / 256];
        else x[i] = static_cast<float>(stored[i]);
    }
    return x;
}
template <rounded_tensor Which, class Stored>
void store(const std::vector<float>& x, std::vector<Stored>& stored, std::vector<float>& scales) {
    if constexpr (std::is_same_v<Stored, std::uint8_t>) {
        for (std::size_t block = 0; block < x.size(); block += 256) {
            float largest = 0;
            for (std::size_t i = block; i < block + 256; ++i) largest = std::max(largest, std::abs(x[i]));
            scales[block / 256] = largest < 0x1p-126f ? 0 : largest;
            const float inverse = largest < 0x1p-126f ? 0 : 1 / largest;
            for (std::size_t i = block; i < block + 256; ++i) stored[i] = code_in_double<Which == rounded_tensor::first_moment>(static_cast<double>(x[i] * inverse));
        }
    } else {
        for (std::size_t i = 0; i < x.size(); ++i) {
            if constexpr (std::is_same_v<Stored, bf16>) stored[i] = drawn(x[i], static_cast<index>(i), Which);
            else stored[i] = x[i];
        }
    }
}

template <class State>
void reference(State& s, const std::vector<float>& g) {
    std::vector<float> m = widened<rounded_tensor::first_moment>(s.first, s.first_scales), v = widened<rounded_tensor::second_moment>(s.second, s.second_scales), p = s.masters;
    if constexpr (State::alone) p.assign(s.weights.begin(), s.weights.end());
    for (std::size_t begin = 0; begin < g.size(); begin += 128) {
        const auto part = [&](auto& all) { return std::span(all).subspan(begin, 128); };
        host::adamw_step(part(p), std::span<float>{}, std::span<const float>(part(g)), part(m), part(v), updates[s.decays[begin / 128] ? 0 : 1]);
    }
    store<rounded_tensor::first_moment>(m, s.first, s.first_scales);
    store<rounded_tensor::second_moment>(v, s.second, s.second_scales);
    s.masters = State::alone ? std::vector<float>{} : p;
    for (std::size_t i = 0; i < s.weights.size(); ++i) {
        if constexpr (State::alone) s.weights[i] = drawn(p[i], static_cast<index>(i), rounded_tensor::weight);
        else s.weights[i] = static_cast<typename State::stored_weight>(p[i]);
    }
}

template <class Master, class Weight, class Moment>
void follows_the_reference() {
    using state_type = state<Master, Weight, Moment>;
    constexpr index each = state_type::run_type::granularity;
    for (const index size : {each, 5 * each, index{16384} + each, index{2 * 16384} + 7 * each}) {
        CAPTURE(size);
        state_type s(size), expected(size), parts(size);
        for (unsigned t = 1; t <= 3; ++t) {
            const std::vector<float> g = gradients_of(size, t);
            reference(expected, g);
            const test::threads_restored restore;
            test::use_threads(static_cast<int>(t));
            host::narrow_adamw_step(s.run(g, 0, size), updates, key);
            CHECK(same(s, expected));
            for (index at = 0, length = each; at < size; at += length, length = 3 * length + each) {  // as buckets are
                length = std::min(length, size - at);
                host::narrow_adamw_step(parts.run(g, at, at + length), updates, key);
            }
            CHECK(same(parts, expected));
        }
        bool finite = true;
        for (const auto& w : s.weights) finite = finite && std::isfinite(static_cast<float>(w));
        for (const float p : s.masters) finite = finite && std::isfinite(p);
        CHECK(finite);
    }
}

}  // namespace

TEST_CASE("narrow adamw: every format against plain loops, to the bit; neither threads nor cuts change one") {
    follows_the_reference<void, bf16, eight_bit>();
    follows_the_reference<float, bf16, eight_bit>();
    follows_the_reference<float, void, bf16>();
    follows_the_reference<void, bf16, bf16>();
    follows_the_reference<void, bf16, float>();
}

TEST_CASE("narrow adamw: a parameter that rests goes no further than its moments say, though one neighbour is 10^8 times larger") {
    // The small one's second moment is below the least value of the block; did it become 0, the step would divide by epsilon alone.
    state<void, bf16, eight_bit> s(256);
    std::vector<float> g(256, 0.0f);
    g[0] = 1, g[1] = 1e-4f;
    host::narrow_adamw_step(s.run(g, 0, 256), updates, key);
    const float before = s.weights[1];
    CHECK(s.second[1] == 1);
    std::fill(g.begin(), g.end(), 0.0f);
    for (int t = 0; t < 10; ++t) host::narrow_adamw_step(s.run(g, 0, 256), updates, key);
    CHECK(std::abs(static_cast<float>(s.weights[1]) - before) < 0.1f);
}

TEST_CASE("narrow adamw: runs that would cut a block are refused before anything changes") {
    state<void, bf16, eight_bit> s(512);
    const auto start = s.weights;
    const std::vector<float> g(512, 1.0f);
    CHECK_THROWS_WITH_AS(host::narrow_adamw_step(s.run(g, 128, 512), updates, key),
                         "narrow_adamw: expected a run that begins and ends at multiples of 256 elements, got one of 384 from 128", bad_argument);
    CHECK(same_bits(s.weights, start));
}

}  // namespace narrow
