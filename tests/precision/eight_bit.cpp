// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <random>
#include <set>
#include <vector>

#include <longspan/precision/eight_bit.hpp>

namespace ls = longspan;

namespace {

/// The values as the paper describes them, in order: decades of equal cells, each value in the middle of its cell; 0; 1.
template <bool Signed>
std::vector<double> described() {
    std::vector<double> all{0, 1};
    for (int z = 0; z < 7; ++z) {
        const int cells = 1 << ((Signed ? 6 : 7) - z);
        for (int f = 0; f < cells; ++f) {
            const double size = std::pow(10.0, -z) * (0.1 + 0.9 * (f + 0.5) / cells);
            all.push_back(size);
            if (Signed) all.push_back(-size);
        }
    }
    std::sort(all.begin(), all.end());
    return all;
}

/// The nearest in double, the upper of two that are equally near; without a sign nothing but 0 becomes 0.
template <bool Signed>
int nearest_in_double(float x) {
    const auto& values = ls::dynamic_table_of<Signed>.values;
    int best = 255;
    for (int rank = 254; rank >= (!Signed && x > 0 ? 1 : 0); --rank)
        if (std::abs(static_cast<double>(x) - static_cast<double>(values[rank])) < std::abs(static_cast<double>(x) - static_cast<double>(values[best]))) best = rank;
    return best;
}

template <bool Signed>
void codes_are_the_nearest() {
    using values = ls::dynamic_values<Signed>;
    const auto& table = ls::dynamic_table_of<Signed>;
    const auto expected = described<Signed>();
    REQUIRE(expected.size() == 256);
    std::set<std::uint8_t> codes;
    for (int rank = 0; rank < 256; ++rank) {
        const auto at = static_cast<std::size_t>(rank);
        CHECK(static_cast<double>(table.values[rank]) == doctest::Approx(expected[at]).epsilon(1e-7));
        CHECK(values::rank_of(values::code_of(rank)) == rank);
        codes.insert(values::code_of(rank));
    }
    CHECK(codes.size() == 256);
    CHECK(table.values[values::rank_of(0)] == 0);

    long wrong = 0;
    const auto check = [&](float x) {
        if (Signed || x >= 0) wrong += values::nearest(x, table.thresholds) != nearest_in_double<Signed>(x);
    };
    for (int rank = 1; rank < 256; ++rank) {  // on both sides of every threshold, and of every value
        for (const float x : {table.thresholds[rank], table.values[rank]}) {
            check(x);
            check(std::nextafter(x, -2.0f));
            check(std::nextafter(x, 2.0f));
        }
    }
    std::mt19937_64 random(5);
    std::uniform_real_distribution<double> exponent(-9, 0.01), plain(-1.1, 1.1);
    for (int i = 0; i < 20'000; ++i) {
        const auto x = static_cast<float>(std::pow(10.0, exponent(random)));
        check(x);
        check(-x);
        check(static_cast<float>(plain(random)));
    }
    for (float edge = 1; edge > 1e-9f; edge /= 10) {
        check(edge);
        check(std::nextafter(edge, 0.0f));
    }
    check(0.0f);
    check(5.0f);
    CHECK(wrong == 0);
    CHECK(values::nearest(HUGE_VALF, table.thresholds) == 255);
    const int of_nan = values::nearest(std::numeric_limits<float>::quiet_NaN(), table.thresholds);
    CHECK((of_nan >= 0 && of_nan < 256));
}

}  // namespace

TEST_CASE("eight_bit: the values of the paper, and the code of the nearest for every float, with a sign and without") {
    codes_are_the_nearest<true>();
    codes_are_the_nearest<false>();
}

TEST_CASE("eight_bit: a second moment above 0 does not become 0") {
    const auto& table = ls::dynamic_table_of<false>;
    for (const float x : {1e-7f, 1e-20f, 0x1p-149f}) CHECK(ls::dynamic_values<false>::nearest(x, table.thresholds) == 1);
    CHECK(ls::dynamic_values<false>::nearest(0.0f, table.thresholds) == 0);
}

TEST_CASE("eight_bit: scales that have no reciprocal are 0, and none is infinite") {
    CHECK(ls::eight_bit_scale(0x1p-126f) == 0x1p-126f);
    CHECK(ls::eight_bit_inverse(0x1p-126f) == 0x1p126f);
    CHECK(ls::eight_bit_scale(0x1p-127f) == 0);
    CHECK(ls::eight_bit_inverse(0) == 0);
    CHECK(ls::eight_bit_scale(HUGE_VALF) == std::numeric_limits<float>::max());
    CHECK(ls::eight_bit_inverse(std::numeric_limits<float>::max()) > 0);
}
