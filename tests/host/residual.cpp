// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <random>
#include <vector>

#include <longspan/host/residual.hpp>

namespace ls = longspan;

namespace {

constexpr ls::random_site site{.seed = 2, .step = 9, .layer = 7, .site = 1};

template <class T>
std::vector<T> wave(ls::index count, double phase) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = ls::from_compute<T>(static_cast<ls::compute_t<T>>(std::sin(phase + 0.37 * static_cast<double>(i))));
    return values;
}

// Twelve documents of 1 to 30 tokens.
std::vector<ls::piece> many_pieces(ls::index& tokens) {
    std::vector<ls::piece> pieces;
    tokens = 0;
    for (ls::index d = 0; d < 12; ++d) {
        pieces.push_back({.document = 50 + d, .position = d % 3, .begin = tokens});
        tokens += 1 + (d * 17) % 30;
    }
    return pieces;
}

template <class Stream, class Branch>
void against_definition(ls::index width, ls::branch_drop drop) {
    using C = ls::compute_t<Stream>;
    ls::index tokens = 0;
    const auto pieces = many_pieces(tokens);
    const ls::piece_table table{pieces, tokens};
    const auto x = wave<Stream>(tokens * width, 0.1);
    const auto branch = wave<Branch>(tokens * width, 0.7), dy = wave<Branch>(tokens * width, 1.9);
    std::vector<Stream> y(x.size());
    std::vector<Branch> dbranch(x.size());
    ls::host::residual(ls::matrix_view(x.data(), tokens, width), ls::matrix_view(branch.data(), tokens, width),
                       ls::matrix_view(y.data(), tokens, width), table, drop, site);
    ls::host::residual_backward(ls::matrix_view(dy.data(), tokens, width), ls::matrix_view(dbranch.data(), tokens, width),
                                table, drop, site);
    const ls::philox_key key = ls::key_of(site);
    const C factor = drop.depth.scale<C>() * drop.dropout.scale<C>();
    for (ls::index i = 0; i < table.count(); ++i)
        for (ls::index t = table.begin(i); t < table.end(i); ++t)
            for (ls::index c = 0; c < width; ++c) {
                const auto at = static_cast<std::size_t>(t * width + c);
                const auto block =
                    ls::philox4x32(ls::token_counter(table[i].document, table[i].position + t - table[i].begin, c / 16), key);
                const bool keep = ls::keeps_branch(key, table[i].document, drop.depth) &&
                                  ls::byte_of(block, c % 16) >= drop.dropout.threshold();
                const C stream = ls::to_compute(x[at]), value = ls::to_compute(branch[at]), up = ls::to_compute(dy[at]);
                REQUIRE(ls::to_compute(y[at]) == ls::round_to<Stream>(keep ? std::fma(value, factor, stream) : stream));
                REQUIRE(ls::to_compute(dbranch[at]) == ls::round_to<Branch>(keep ? up * factor : C(0)));
            }
}

}  // namespace

TEST_CASE("residual: forward and backward are their definitions, with each kind of dropping and in mixed formats") {
    const ls::branch_drop none{}, elements{.dropout = ls::dropout_rate{0.25}}, depth{.depth = ls::depth_rate{0.4}},
        both{.dropout = ls::dropout_rate{0.1}, .depth = ls::depth_rate{0.3}};
    for (const auto& drop : {none, elements, depth, both})
        for (const ls::index width : {1, 16, 47}) {
            against_definition<float, float>(width, drop);
            against_definition<double, double>(width, drop);
            against_definition<float, ls::bf16>(width, drop);
            against_definition<ls::bf16, ls::bf16>(width, drop);
        }
}

TEST_CASE("residual: in place, and what is dropped leaves no trace even if it is not finite") {
    const ls::index width = 20, tokens = 64;
    std::vector<ls::piece> pieces;
    for (ls::index d = 0; d < 16; ++d) pieces.push_back({.document = d, .position = 0, .begin = 4 * d});
    const ls::branch_drop drop{.depth = ls::depth_rate{0.5}};
    auto x = wave<float>(tokens * width, 0);
    const auto before = x;
    const std::vector<float> branch(x.size(), std::numeric_limits<float>::quiet_NaN());
    const ls::matrix_view stream(x.data(), tokens, width);
    ls::host::residual(stream, ls::matrix_view(branch.data(), tokens, width), stream, {pieces, tokens}, drop, site);
    int dropped = 0;
    for (ls::index t = 0; t < tokens; ++t)
        for (ls::index c = 0; c < width; ++c) {
            const auto at = static_cast<std::size_t>(t * width + c);
            const bool keep = ls::keeps_branch(ls::key_of(site), t / 4, drop.depth);
            REQUIRE((keep ? std::isnan(x[at]) : x[at] == before[at]));
            dropped += !keep;
        }
    CHECK(dropped > 0);
    CHECK(dropped < tokens * width);
}

TEST_CASE("residual: documents are dropped at the depth rate, differently in each layer") {
    const ls::depth_rate rate{0.2};
    int dropped = 0, differ = 0;
    const auto here = ls::key_of(site), above = ls::key_of({.seed = 2, .step = 9, .layer = 8, .site = 1});
    for (ls::index d = 0; d < 20000; ++d) {
        dropped += !ls::keeps_branch(here, d, rate);
        differ += ls::keeps_branch(here, d, rate) != ls::keeps_branch(above, d, rate);
    }
    CHECK(std::abs(dropped / 20000.0 - 0.2) < 5 * std::sqrt(0.16 / 20000));
    CHECK(std::abs(differ / 20000.0 - 0.32) < 5 * std::sqrt(0.2176 / 20000));
}

TEST_CASE("residual: chunks of tokens are thinned as all at once") {
    using ls::index;  // not POSIX's
    constexpr index tokens = 200, width = 37;
    std::vector<ls::piece> pieces;
    for (index t = 0, d = 0; t < tokens; t += 1 + d * 5 % 40, ++d) pieces.push_back({.document = d, .position = d % 4, .begin = t});
    const ls::piece_table table{pieces, tokens};
    const ls::branch_drop drop{ls::dropout_rate{0.3}, ls::depth_rate{0.4}};
    std::mt19937 random(4);
    std::normal_distribution<float> normal;
    std::vector<float> x(tokens * width), branch(x.size()), whole(x.size()), back(x.size()), part(x.size()), part_back(x.size());
    for (std::size_t i = 0; i < x.size(); ++i) x[i] = normal(random), branch[i] = normal(random);
    const auto rows = [](std::vector<float>& of, index first, index count) { return ls::matrix_view(of.data() + first * width, count, index{width}); };
    ls::host::residual(rows(x, 0, tokens), rows(branch, 0, tokens), rows(whole, 0, tokens), table, drop, site);
    ls::host::residual_backward(rows(branch, 0, tokens), rows(back, 0, tokens), table, drop, site);
    for (index first = 0; first < tokens; first += 67) {
        const index count = std::min<index>(67, tokens - first);
        const ls::piece_rows here(table, first, count);
        ls::host::residual(rows(x, first, count), rows(branch, first, count), rows(part, first, count), here, drop, site);
        ls::host::residual_backward(rows(branch, first, count), rows(part_back, first, count), here, drop, site);
    }
    CHECK(part == whole);
    CHECK(part_back == back);
    CHECK(whole != x);
    const auto onto = rows(x, 0, 67), some = rows(branch, 0, 67), to = rows(part, 0, 67);
    CHECK_THROWS_AS(ls::host::residual(onto, some, to, {table, 140, 67}, drop, site), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::residual(onto, some, to, table, drop, site), ls::bad_argument);
}

TEST_CASE("residual: what does not fit is refused with what came") {
    std::vector<float> x(64);
    const std::vector<ls::piece> pieces{{.document = 0, .position = 0, .begin = 0}};
    const ls::matrix_view a(x.data(), 4, 16), b(x.data(), 3, 16);
    CHECK_THROWS_AS(ls::host::residual(a, b, a, {pieces, 4}, {}, site), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::residual_backward(a, a, {pieces, 3}, {}, site), ls::bad_argument);
    CHECK_THROWS_AS(ls::host::residual(a, a, a, {{}, 4}, {}, site), ls::bad_argument);
}
