// SPDX-License-Identifier: Apache-2.0
#include <cmath>
#include <string>
#include <vector>

#include <longspan/cuda/rotary.cuh>

#include "support.cuh"

namespace rotary_test {

namespace ls = longspan;
using ls::index, ls::cuda::direction;  // index: not POSIX's
using cuda_test::check_rounded_once, cuda_test::device_array, cuda_test::doubles, cuda_test::random_values, cuda_test::relative_error, cuda_test::same_bits;

TEST_CASE("cuda rotary: angles are exact at any position, documents of no and of one token among them") {
    constexpr index head = 16, half = head / 2, tokens = 77;
    const std::vector<ls::piece> pieces{{5, 0, 0}, {6, 3'999'990, 20}, {7, 0, 60}, {8, 0, 60}, {9, 12, 61}, {-1, 0, 70}, {-1, 0, 77}};
    cuda_test::own_stream stream;
    device_array<ls::piece> pieces_d(pieces);
    device_array<float> cosines(tokens * half), sines(tokens * half);
    const ls::piece_table table{{pieces_d.data(), pieces.size()}, tokens};
    ls::cuda::rotary_table<head>(stream, table, 10000.0, cosines.view(tokens, half), sines.view(tokens, half));
    const auto c = cosines.get(), s = sines.get();
    for (index t = 0; t < tokens; ++t) {
        std::size_t p = 0;
        while (p + 1 < pieces.size() && pieces[p + 1].begin <= t) ++p;
        const auto position = static_cast<double>(t - pieces[p].begin + pieces[p].position);
        for (index j = 0; j < half; ++j) {
            const double angle = position * std::pow(10000.0, -2.0 * static_cast<double>(j) / static_cast<double>(head));
            const auto at = static_cast<std::size_t>(t * half + j);
            // An ulp of 1 in float, and what a double's angle of four million is off by.
            CHECK(std::abs(static_cast<double>(c[at]) - std::cos(angle)) < 6.1e-8);
            CHECK(std::abs(static_cast<double>(s[at]) - std::sin(angle)) < 6.1e-8);
        }
    }
    CHECK_THROWS_AS(ls::cuda::rotary_table<head>(stream, table, -1.0, cosines.view(tokens, half), sines.view(tokens, half)), ls::bad_argument);
}

template <class T, index Head>
void turns(index rows, index heads) {
    CAPTURE(rows);
    CAPTURE(heads);
    constexpr index half = Head / 2;
    const index width = heads * Head, apart = width + 2 * Head;
    const auto x = random_values<T>(static_cast<std::size_t>(rows * apart), 1);
    std::vector<float> c, s;
    for (const float angle : random_values<float>(static_cast<std::size_t>(rows * half), 2, 3.0)) c.push_back(std::cos(angle)), s.push_back(std::sin(angle));
    cuda_test::own_stream stream;
    device_array<float> c_d(c), s_d(s);
    for (const direction way : {direction::forward, direction::backward}) {
        std::vector<double> exact(static_cast<std::size_t>(rows * width));
        for (index t = 0; t < rows; ++t) {
            for (index i = 0; i < width; ++i) {
                const index j = i % half, first = i / Head * Head + j;
                const auto angle = static_cast<std::size_t>(t * half + j);
                const double a = static_cast<double>(ls::to_compute(x[static_cast<std::size_t>(t * apart + first)]));
                const double b = static_cast<double>(ls::to_compute(x[static_cast<std::size_t>(t * apart + first + half)]));
                const double co = static_cast<double>(c[angle]), si = way == direction::forward ? static_cast<double>(s[angle]) : -static_cast<double>(s[angle]);
                exact[static_cast<std::size_t>(t * width + i)] = i % Head < half ? a * co - b * si : b * co + a * si;
            }
        }
        device_array<T> x_d(x), y(static_cast<std::size_t>(rows * width));
        ls::cuda::rotary<Head>(stream, x_d.constants(rows, width, apart), c_d.constants(rows, half), s_d.constants(rows, half), y.view(rows, width), way);
        check_rounded_once(y.get(), exact, 1e-7);
        // In place: the same bits, and nothing beside the heads.
        ls::cuda::rotary<Head>(stream, x_d.constants(rows, width, apart), c_d.constants(rows, half), s_d.constants(rows, half), x_d.view(rows, width, apart), way);
        const auto in_place = x_d.get(), apart_from = y.get();
        for (index t = 0; t < rows; ++t) {
            for (index i = 0; i < apart; ++i) {
                const T got = in_place[static_cast<std::size_t>(t * apart + i)];
                const T want = i < width ? apart_from[static_cast<std::size_t>(t * width + i)] : x[static_cast<std::size_t>(t * apart + i)];
                REQUIRE(ls::to_compute(got) == ls::to_compute(want));
            }
        }
    }
}

TEST_CASE_TEMPLATE("cuda rotary: heads of a projection's columns against double", T, float, ls::bf16, ls::fp16) {
    for (const index rows : {1, 5, 33}) {
        for (const index heads : {1, 3, 4, 5, 9}) turns<T, 64>(rows, heads);
        turns<T, 24>(rows, 2);
        turns<T, 128>(rows, 2);
    }
}

TEST_CASE("cuda rotary: no rows, and what does not fit") {
    cuda_test::own_stream stream;
    device_array<ls::bf16> x(256);
    device_array<float> angles(64);
    ls::cuda::rotary<16>(stream, x.constants(0, 32), angles.constants(0, 8), angles.constants(0, 8), x.view(0, 32), direction::forward);
    std::string said;
    try {
        ls::cuda::rotary<16>(stream, x.constants(4, 24), angles.constants(4, 8), angles.constants(4, 8), x.view(4, 24), direction::forward);
    } catch (const ls::bad_argument& e) {
        said = e.what();
    }
    CHECK(said == "rotary: expected whole heads of 16 columns, got 24 columns");
    CHECK_THROWS_AS(ls::cuda::rotary<16>(stream, x.constants(4, 32), angles.constants(4, 4), angles.constants(4, 8), x.view(4, 32), direction::forward),
                    ls::bad_argument);
}

}  // namespace rotary_test
