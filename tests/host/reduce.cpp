// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <cmath>
#include <limits>
#include <random>
#include <span>
#include <vector>

#include <longspan/host/reduce.hpp>

#include "buffers.hpp"

namespace longspan {

namespace {

/// Lengths around a pack, a block of packs, a part, and 256 parts.
const index lengths[] = {0, 1, 7, 8, 15, 16, 17, 255, 256, 257, 1023, 1024, 1025, 4099, 262143, 262144, 262145, 300001};

template <class T>
std::span<T> span_of(test::matrix<T>& m, index count) {
    return {m.view().data, static_cast<std::size_t>(count)};
}

}  // namespace

TEST_CASE_TEMPLATE("the sum of squares is a double's, at every length", T, float, double, bf16, fp16) {
    std::mt19937 generator(1);
    for (const index n : lengths) {
        test::matrix<T> values(1, n);
        values.fill_random(generator);
        long double want = 0;
        for (index i = 0; i < n; ++i) want += static_cast<long double>(values.value(0, i)) * values.value(0, i);
        CHECK(host::sum_of_squares(span_of(values, n)) == doctest::Approx(static_cast<double>(want)).epsilon(1e-13));
    }
}

TEST_CASE("squares neither overflow a float nor vanish beside large ones") {
    std::vector<float> values(5000, 1e30f);
    CHECK(host::sum_of_squares(std::span<const float>(values)) == doctest::Approx(5000e60).epsilon(1e-6));
    values.assign(5000, 1e-3f);
    values[0] = 1e3f;
    CHECK(host::sum_of_squares(std::span<const float>(values)) == doctest::Approx(1e6 + 4999e-6).epsilon(1e-12));
    values[4999] = std::numeric_limits<float>::quiet_NaN();
    CHECK(std::isnan(host::sum_of_squares(std::span<const float>(values))));
}

TEST_CASE("1, 2 and 3 threads agree to the bit") {
    const test::threads_restored restored;
    std::mt19937 generator(2);
    test::matrix<float> values(1, 300001);
    values.fill_random(generator);
    double first = 0;
    for (const int threads : {1, 2, 3}) {
        test::use_threads(threads);
        const double sum = host::sum_of_squares(span_of(values, 300001));
        if (threads == 1) first = sum;
        CHECK(sum == first);
    }
}

TEST_CASE_TEMPLATE("the first value that is not finite is named, whichever and wherever it is", T, float, double, bf16, fp16) {
    using C = compute_t<T>;
    std::mt19937 generator(3);
    for (const index n : lengths) {
        test::matrix<T> values(1, n);  // what surrounds the span is NaN
        values.fill_random(generator);
        if (n > 0) values(0, n / 3) = from_compute<T>(static_cast<C>(format<T>::maximum));  // large, but finite
        CHECK(host::first_non_finite(span_of(values, n)) == -1);
        if (n == 0) continue;
        for (const index at : {n - 1, n / 2, index{0}}) {  // each in front of the last
            for (const C bad : {std::numeric_limits<C>::quiet_NaN(), std::numeric_limits<C>::infinity(),
                                -std::numeric_limits<C>::infinity()}) {
                values(0, at) = from_compute<T>(bad);
                CHECK(host::first_non_finite(span_of(values, n)) == at);
            }
        }
    }
}

TEST_CASE_TEMPLATE("scaling rounds once and writes nothing else", T, float, double, bf16, fp16) {
    using C = compute_t<T>;
    std::mt19937 generator(4);
    for (const index n : lengths) {
        test::matrix<T> values(1, n);
        values.fill_random(generator);
        test::matrix<T> before = values;
        const C factor = C(0.3);
        host::scale(span_of(values, n), factor);
        index wrong = 0;
        for (index i = 0; i < n; ++i) {
            const T want = from_compute<T>(to_compute(before(0, i)) * factor);
            wrong += to_compute(values(0, i)) != to_compute(want);
        }
        CHECK(wrong == 0);
        CHECK(values.intact());
    }
}

}  // namespace longspan
