// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <limits>
#include <random>
#include <vector>

#include <longspan/core/bad_ids.hpp>
#include <longspan/host/fixed_stream.hpp>
#include <longspan/host/norm.hpp>

#include "buffers.hpp"

namespace ls = longspan;

namespace streams {

using ls::index;  // not POSIX's

namespace {

constexpr ls::random_site site{.seed = 2, .step = 9, .layer = 7, .site = 1};

/// Twelve documents of 1 to 30 tokens.
std::vector<ls::piece> many_pieces(index& tokens) {
    std::vector<ls::piece> pieces;
    tokens = 0;
    for (index d = 0; d < 12; ++d) {
        pieces.push_back({.document = 50 + d, .position = d % 3, .begin = tokens});
        tokens += 1 + (d * 17) % 30;
    }
    return pieces;
}

template <class F>
std::vector<F> random_stream(index count, std::mt19937_64& random) {
    using units = typename F::units_type;
    std::vector<F> x(static_cast<std::size_t>(count));
    for (F& v : x) v = {static_cast<units>(static_cast<units>(random()) / 4 * 3 / 4)};  // three quarters of the range
    return x;
}
template <class B>
std::vector<B> random_branch(index count, std::mt19937_64& random) {
    std::normal_distribution<double> normal(0, 30);
    std::vector<B> values(static_cast<std::size_t>(count));
    for (B& v : values) v = ls::from_compute<B>(static_cast<ls::compute_t<B>>(normal(random)));
    return values;
}

template <class F, class B>
void against_definition(index width, ls::branch_drop drop) {
    using C = ls::compute_t<F>;
    index tokens = 0;
    const auto pieces = many_pieces(tokens);
    const ls::piece_table table{pieces, tokens};
    std::mt19937_64 random(static_cast<std::uint64_t>(width));
    const auto x = random_stream<F>(tokens * width, random);
    const auto branch = random_branch<B>(tokens * width, random);
    std::vector<F> y(x.size()), back(x.size());
    index first_bad = ls::bad_ids::none;
    const ls::matrix_view b(branch.data(), tokens, width);
    ls::host::add_branch(ls::matrix_view(x.data(), tokens, width), b, ls::matrix_view(y.data(), tokens, width), table, drop, site, &first_bad);
    ls::host::take_branch(ls::matrix_view(y.data(), tokens, width), b, ls::matrix_view(back.data(), tokens, width), table, drop, site, &first_bad);
    CHECK(first_bad == ls::bad_ids::none);
    CHECK(back == x);
    const ls::philox_key key = ls::key_of(site);
    const C factor = drop.depth.scale<C>() * drop.dropout.scale<C>();
    index moved = 0;
    for (index i = 0; i < table.count(); ++i)
        for (index t = table.begin(i); t < table.end(i); ++t)
            for (index c = 0; c < width; ++c) {
                const auto at = static_cast<std::size_t>(t * width + c);
                const auto block = ls::philox4x32(ls::token_counter(table[i].document, table[i].position + t - table[i].begin, c / 16), key);
                const bool keep = ls::keeps_branch(key, table[i].document, drop.depth) && ls::byte_of(block, c % 16) >= drop.dropout.threshold();
                const long double thinned = keep ? ls::to_compute(branch[at]) * factor : C(0);  // rounded as a product is, then to whole units
                const long double units = std::nearbyint(thinned * static_cast<long double>(F::scale));
                REQUIRE(static_cast<long double>(y[at].units) == static_cast<long double>(x[at].units) + units);
                moved += y[at].units != x[at].units;
            }
    CHECK(moved > 0);
}

}  // namespace

TEST_CASE("fixed_stream: a branch is rounded once, added exactly, and comes off again to the bit, whatever is dropped") {
    const ls::branch_drop none{}, elements{.dropout = ls::dropout_rate{0.25}}, both{.dropout = ls::dropout_rate{0.1}, .depth = ls::depth_rate{0.3}};
    for (const auto& drop : {none, elements, both})
        for (const index width : {1, 16, 47}) {
            against_definition<ls::fixed32, float>(width, drop);
            against_definition<ls::fixed32, ls::bf16>(width, drop);
            against_definition<ls::fixed64, double>(width, drop);
        }
    against_definition<ls::fixed32, ls::fp16>(33, both);
}

TEST_CASE("fixed_stream: what is no number or leaves the range changes nothing and is noted, unless it is dropped") {
    constexpr index tokens = 40, width = 20;
    std::vector<ls::piece> pieces;
    for (index d = 0; d < 10; ++d) pieces.push_back({.document = d, .position = 0, .begin = 4 * d});
    const ls::piece_table table{pieces, tokens};
    const float inf = std::numeric_limits<float>::infinity(), nan = std::numeric_limits<float>::quiet_NaN();
    const auto near = static_cast<float>(ls::fixed32::range) - 1;
    for (const float bad : {nan, inf, -inf, 5000.0f, -4096.0f, -2 * near, 1.5f}) {
        CAPTURE(bad);
        std::vector<ls::fixed32> x(tokens * width, ls::fixed32{0}), before;
        std::vector<float> branch(x.size(), 0.5f), start(x.size(), near);
        const ls::matrix_view stream(x.data(), tokens, width);
        index first_bad = ls::bad_ids::none;
        ls::host::start_stream(ls::matrix_view(start.data(), tokens, width), stream, &first_bad);
        CHECK(first_bad == ls::bad_ids::none);
        before = x;
        branch[31 * width + 19] = branch[13 * width + 5] = bad;
        ls::host::add_branch(stream, ls::matrix_view(branch.data(), tokens, width), stream, table, {}, site, &first_bad);
        CHECK(first_bad == 13);  // −2 · near would lead back into the range, but is itself beyond it; 1.5 is not, but its sum
        CHECK(x[13 * width + 5].units == before[13 * width + 5].units);
        CHECK(x[13 * width + 4].units == before[13 * width + 4].units + (1 << 17));
        x = before;
        first_bad = ls::bad_ids::none;
        const auto some = stream.row_range(10, 20);  // by its number in the batch, also where other rows are not at hand
        ls::host::add_branch(some, ls::matrix_view(branch.data() + 10 * width, index{20}, width), some, {table, 10, 20}, {}, site, &first_bad);
        CHECK(first_bad == 13);
        ls::host::add_branch(stream, ls::matrix_view(branch.data(), tokens, width), stream, table, {}, site, nullptr);  // nobody asks
    }
    // A document that is dropped, and a value that does not fit where a stream begins.
    std::vector<ls::fixed32> x(tokens * width, ls::fixed32{7});
    const std::vector<float> nans(x.size(), nan);
    const ls::matrix_view stream(x.data(), tokens, width);
    const ls::branch_drop half{.depth = ls::depth_rate{0.5}};
    index first_bad = ls::bad_ids::none, expected = ls::bad_ids::none;
    for (index t = tokens - 1; t >= 0; --t)
        if (ls::keeps_branch(ls::key_of(site), t / 4, half.depth)) expected = t;
    ls::host::add_branch(stream, ls::matrix_view(nans.data(), tokens, width), stream, table, half, site, &first_bad);
    CHECK(first_bad == expected);
    CHECK(std::all_of(x.begin(), x.end(), [](ls::fixed32 v) { return v.units == 7; }));
    std::vector<float> values(x.size(), -3.25f);
    values[22 * width] = 4096;
    first_bad = ls::bad_ids::none;
    ls::host::start_stream(ls::matrix_view(values.data(), tokens, width), stream, &first_bad);
    CHECK(first_bad == 22);
    CHECK(x[22 * width].units == 0);
    CHECK(x[22 * width + 1].units == -13 * (1 << 16));
}

TEST_CASE("fixed_stream: two streams are added and parted to the bit, in place, at any stride") {
    std::mt19937_64 random(4);
    constexpr index rows = 37, width = 19;
    auto both = random_stream<ls::fixed32>(rows * 2 * width, random);
    const auto before = both;
    const ls::matrix_view all(both.data(), rows, 2 * width);
    const auto first = all.column_range(0, width), second = all.column_range(width, width);
    ls::host::add_stream(first, second);
    for (index t = 0; t < rows; ++t)
        for (index c = 0; c < width; ++c) {
            const auto at = static_cast<std::size_t>(t * 2 * width + c);
            REQUIRE(std::int64_t{both[at].units} == std::int64_t{before[at].units} + before[at + width].units);
            REQUIRE(both[at + width] == before[at + width]);
        }
    ls::host::take_stream(first, second);
    CHECK(both == before);
}

TEST_CASE("fixed_stream: norms read a stream as the nearest floats") {
    constexpr index rows = 21, width = 45;
    std::mt19937_64 random(6);
    const auto x = random_stream<ls::fixed32>(rows * width, random);
    std::vector<float> floats, weight(width, 1.5f), y(x.size()), expected(x.size()), rstd(rows), mean(rows), rstd_expected(rows);
    for (const ls::fixed32 v : x) floats.push_back(static_cast<float>(static_cast<double>(v.units) * 0x1p-18));
    const auto views = [&](auto& of) { return ls::matrix_view(of.data(), rows, width); };
    ls::host::rms_norm(views(x), weight.data(), 1e-5, views(y), rstd.data());
    ls::host::rms_norm(views(floats), weight.data(), 1e-5, views(expected), rstd_expected.data());
    CHECK(y == expected);
    CHECK(rstd == rstd_expected);
    std::vector<float> dx(x.size(), 1), dx_expected(x.size(), 1), dw(width), dw_expected(width);
    const std::vector<float> dy = random_branch<float>(rows * width, random);
    ls::host::rms_norm_backward(views(dy), views(x), weight.data(), rstd.data(), views(dx), ls::host::accumulate::yes, dw.data());
    ls::host::rms_norm_backward(views(dy), views(floats), weight.data(), rstd.data(), views(dx_expected), ls::host::accumulate::yes, dw_expected.data());
    CHECK(dx == dx_expected);
    CHECK(dw == dw_expected);
    ls::host::layer_norm(views(x), weight.data(), weight.data(), 1e-5, views(y), mean.data(), rstd.data());
    ls::host::layer_norm(views(floats), weight.data(), weight.data(), 1e-5, views(expected), mean.data(), rstd.data());
    CHECK(y == expected);
}

TEST_CASE("fixed_stream: what does not fit is refused") {
    std::vector<ls::fixed32> x(64);
    std::vector<float> values(64);
    const std::vector<ls::piece> pieces{{.document = 0, .position = 0, .begin = 0}};
    const ls::matrix_view a(x.data(), 4, 16), b(x.data(), 3, 16);
    const ls::matrix_view v(values.data(), 4, 16), w(values.data(), 3, 16);
    CHECK_THROWS_AS(ls::host::add_branch(a, w, a, {pieces, 4}, {}, site, nullptr), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::add_branch(b, w, a, {pieces, 4}, {}, site, nullptr), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::take_branch(a, v, a, {pieces, 3}, {}, site, nullptr), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::start_stream(v, b, nullptr), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::add_stream(a, b), ls::bad_argument);
}

}  // namespace streams
