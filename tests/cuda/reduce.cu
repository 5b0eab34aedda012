// SPDX-License-Identifier: Apache-2.0
//
// Numbers about whole runs of values, against long double.
#include <limits>

#include <longspan/cuda/reduce.cuh>

#include "support.cuh"

namespace longspan {

using namespace cuda_test;

TEST_CASE_TEMPLATE("cuda reduce: sums of squares in double, any length, the same bits every time", T, float, bf16, fp16) {
    const own_stream stream;
    device_array<std::byte> workspace(static_cast<std::size_t>(cuda::sum_of_squares_workspace()));
    device_array<double> out(1);
    for (const std::size_t size : {0, 1, 3, 7, 8, 9, 1023, 40000, 1056 * 256 * 8 + 5, 5000001}) {
        const auto x = random_values<T>(size, static_cast<unsigned>(size), 3.0);
        device_array<T> values(x);
        long double exact = 0;
        for (const T value : x) exact += static_cast<long double>(to_compute(value)) * to_compute(value);
        CAPTURE(size);
        double first = 0;
        for (int run = 0; run < 2; ++run) {
            cuda::sum_of_squares(stream, std::span(values.data(), size), out.data(), workspace.data());
            const double ours = out.get()[0];
            CHECK(std::abs(ours - static_cast<double>(exact)) <= 1e-14 * static_cast<double>(exact));
            if (run == 0) first = ours;
            else CHECK(ours == first);
        }
    }
    // No float could hold these.
    if constexpr (std::is_same_v<T, float>) {
        device_array<float> large(std::vector<float>{1e30f, 1e30f});
        cuda::sum_of_squares(stream, std::span<const float>(large.data(), 2), out.data(), workspace.data());
        CHECK(out.get()[0] == doctest::Approx(2e60));
    }
}

TEST_CASE_TEMPLATE("cuda reduce: the first value that is not finite", T, float, bf16, fp16) {
    const own_stream stream;
    device_array<index> out(1);
    const std::size_t size = 3000007;
    auto x = random_values<T>(size, 1);
    x[5] = from_compute<T>(0.0f);
    device_array<T> values(x);
    const auto found = [&](std::size_t begin, std::size_t count) {
        cuda::first_non_finite(stream, std::span<const T>(values.data() + begin, count), out.data());
        return out.get()[0];
    };
    CHECK(found(0, size) == -1);
    CHECK(found(0, 0) == -1);
    CHECK(found(3, 0) == -1);
    const T infinity = from_compute<T>(-std::numeric_limits<float>::infinity()), nan = from_compute<T>(std::numeric_limits<float>::quiet_NaN());
    for (const std::size_t at : {size - 1, std::size_t{2999999}, std::size_t{1700001}, std::size_t{4097}, std::size_t{17}, std::size_t{0}}) {
        x[at] = at % 2 == 0 ? infinity : nan;  // and those further on stay
        values.put(x);
        CHECK(found(0, size) == static_cast<index>(at));
        if (at >= 3) CHECK(found(3, size - 3) == static_cast<index>(at) - 3);  // not at a multiple of 16 bytes
    }
    values.put(std::vector<T>(size, nan));
    CHECK(found(0, size) == 0);
    CHECK(found(1, 2) == 0);
}

TEST_CASE_TEMPLATE("cuda reduce: scaling rounds once", T, float, bf16, fp16) {
    const own_stream stream;
    for (const std::size_t size : {0, 5, 8, 4099}) {
        auto x = random_values<T>(size, 2);
        device_array<T> values(x);
        cuda::scale(stream, std::span(values.data(), size), 0.3f);
        for (T& value : x) value = from_compute<T>(to_compute(value) * 0.3f);
        CHECK(same_bits(values.get(), x));
    }
}

TEST_CASE("cuda reduce: sentences for what does not fit") {
    const own_stream stream;
    device_array<float> x(64);
    device_array<double> out(200000);
    std::byte* const workspace = reinterpret_cast<std::byte*>(out.data());
    CHECK_THROWS_AS(cuda::sum_of_squares(stream, std::span(x.data() + 1, 8), out.data(), workspace), bad_argument);
    CHECK_THROWS_AS(cuda::sum_of_squares(stream, std::span(x.data(), 8), static_cast<double*>(nullptr), workspace), bad_argument);
    CHECK_THROWS_AS(cuda::sum_of_squares(stream, std::span(x.data(), 8), out.data(), static_cast<std::byte*>(nullptr)), bad_argument);
    CHECK_THROWS_AS(cuda::first_non_finite(stream, std::span(x.data(), 8), static_cast<index*>(nullptr)), bad_argument);
    stream.wait();
}

}  // namespace longspan
