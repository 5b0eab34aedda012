// SPDX-License-Identifier: Apache-2.0
//
// First values and rounded copies, held against the host's to the bit.
#include <longspan/cuda/fill.cuh>

#include "support.cuh"

namespace longspan {

using namespace cuda_test;

namespace {

/// Elements that the most CTAs cover in one go, and some more: every thread comes round again.
constexpr std::size_t more_than_a_grid = std::size_t{65536} * cuda::detail::fill_threads + 77;

template <class T>
void check_fill(std::size_t count, double value) {
    CAPTURE(count);
    device_array<T> to(count);
    const own_stream stream;
    cuda::fill(stream, std::span(to.data(), count), value);
    const std::vector<T> got = to.get(), expected(count, from_compute<T>(static_cast<compute_t<T>>(value)));
    CHECK(same_bits(got, expected));
}

}  // namespace

TEST_CASE("cuda fill: one value everywhere, rounded to its format") {
    for (const std::size_t count : {1, 255, 256, 257, 10'007}) {
        check_fill<float>(count, 0.1);
        check_fill<bf16>(count, 0.1);
        check_fill<fp16>(count, -1.0 / 3);
    }
    check_fill<bf16>(more_than_a_grid, 0.7);
    const own_stream stream;
    cuda::fill(stream, std::span<float>(), 1.0);  // nothing to do
}

TEST_CASE("cuda fill: normals are the host's, element by element, whatever the length") {
    const own_stream stream;
    for (const std::size_t count : {1, 4, 5, 1023, 100'003}) {
        device_array<float> to(count);
        cuda::fill_normal(stream, std::span(to.data(), count), 42, 7, 0.02);
        const std::vector<float> got = to.get();
        const philox_key key = key_of({.seed = 42, .step = 0, .layer = 7, .site = 0x696e6974});
        std::vector<float> expected(count);
        for (std::size_t i = 0; i < count; ++i) expected[i] = static_cast<float>(static_cast<double>(normal_element(key, static_cast<index>(i))) * 0.02);
        CHECK(same_bits(got, expected));
    }
    // Another ordinal, another seed: other numbers.
    device_array<float> a(64), b(64), c(64);
    cuda::fill_normal(stream, std::span(a.data(), 64), 42, 7, 1.0);
    cuda::fill_normal(stream, std::span(b.data(), 64), 42, 8, 1.0);
    cuda::fill_normal(stream, std::span(c.data(), 64), 43, 7, 1.0);
    CHECK(!same_bits(a.get(), b.get()));
    CHECK(!same_bits(a.get(), c.get()));
}

TEST_CASE("cuda fill: normals go on where the grid ends") {
    const std::size_t count = 4 * more_than_a_grid + 3;
    device_array<float> to(count);
    const own_stream stream;
    cuda::fill_normal(stream, std::span(to.data(), count), 1, 2, 0.5);
    const std::vector<float> got = to.get();
    const philox_key key = key_of({.seed = 1, .step = 0, .layer = 2, .site = 0x696e6974});
    std::size_t wrong = 0;
    const auto look = [&](std::size_t i) { wrong += got[i] != static_cast<float>(static_cast<double>(normal_element(key, static_cast<index>(i))) * 0.5); };
    for (std::size_t i = 0; i < count; i += 10'007) look(i);
    for (std::size_t i = count - 2000; i < count; ++i) look(i);
    CHECK(wrong == 0);
}

TEST_CASE_TEMPLATE("cuda round: the weights of masters, to nearest even", T, float, bf16, fp16) {
    const own_stream stream;
    for (const std::size_t count : {std::size_t{1}, std::size_t{3}, std::size_t{4}, std::size_t{1027}, 4 * more_than_a_grid + 3}) {
        if (count > more_than_a_grid && !std::is_same_v<T, bf16>) continue;
        const std::vector<float> some = random_values<float>(5003, 6, 0.02);
        std::vector<float> masters(count);
        for (std::size_t i = 0; i < count; ++i) masters[i] = some[i % some.size()];
        if (count > 1) masters[1] = 1.00390625f;  // a tie in bf16
        const device_array<float> from(masters);
        device_array<T> to(count);
        cuda::round(stream, std::span(from.data(), count), std::span(to.data(), count));
        std::vector<T> expected(count);
        for (std::size_t i = 0; i < count; ++i) expected[i] = from_compute<T>(masters[i]);
        CHECK(same_bits(to.get(), expected));
    }
}

TEST_CASE("cuda fill: normals in bf16 are those of float, rounded") {
    const own_stream stream;
    device_array<float> wide(1003);
    device_array<bf16> narrow(1003);
    cuda::fill_normal(stream, std::span(wide.data(), 1003), 42, 7, 0.02);
    cuda::fill_normal(stream, std::span(narrow.data(), 1003), 42, 7, 0.02);
    std::vector<bf16> expected;
    for (const float x : wide.get()) expected.push_back(bf16(x));
    CHECK(same_bits(narrow.get(), expected));
}

TEST_CASE_TEMPLATE("cuda add_rounded: each sum to nearest even once", T, float, bf16) {
    const own_stream stream;
    for (const std::size_t count : {1, 4, 7, 1023, 100'003}) {
        const std::vector<float> from = random_values<float>(count, 1);
        std::vector<T> sums = random_values<T>(count, 2, 30);
        const device_array<float> d_from(from);
        device_array<T> to(sums);
        cuda::add_rounded(stream, std::span(d_from.data(), count), std::span(to.data(), count));
        for (std::size_t i = 0; i < count; ++i) sums[i] = from_compute<T>(to_compute(sums[i]) + from[i]);
        CHECK(same_bits(to.get(), sums));
    }
    device_array<T> to(8);
    const device_array<float> from(8);
    CHECK_THROWS_AS(cuda::add_rounded(stream, std::span(from.data(), 8), std::span(to.data(), 7)), bad_argument);
    CHECK_THROWS_AS(cuda::add_rounded(stream, std::span(from.data() + 1, 7), std::span(to.data(), 7)), bad_argument);
}

TEST_CASE("cuda round: sentences for what does not fit") {
    const own_stream stream;
    device_array<float> masters(16);
    device_array<bf16> weights(16);
    CHECK_THROWS_AS(cuda::round(stream, std::span(masters.data(), 16), std::span(weights.data(), 15)), bad_argument);
    CHECK_THROWS_AS(cuda::round(stream, std::span(masters.data() + 1, 8), std::span(weights.data(), 8)), bad_argument);
    CHECK_THROWS_AS(cuda::round(stream, std::span(masters.data(), 8), std::span(weights.data() + 4, 8)), bad_argument);
    cuda::round(stream, std::span<float>(), std::span<bf16>());
}

}  // namespace longspan
