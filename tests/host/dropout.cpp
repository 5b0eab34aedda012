// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <initializer_list>
#include <limits>
#include <vector>

#include <longspan/host/dropout.hpp>
#include <longspan/precision/policy.hpp>

#if defined(_OPENMP)
#include <omp.h>
#endif

namespace ls = longspan;

namespace {

constexpr ls::random_site site{.seed = 11, .step = 5, .layer = 3, .site = 2};

// A batch with a split document, an empty piece, a one-token piece and a tail.
struct batch {
    std::vector<ls::piece> pieces{{.document = 9, .position = 0, .begin = 0},
                                  {.document = 4, .position = 100, .begin = 37},
                                  {.document = 8, .position = 0, .begin = 38},
                                  {.document = 1, .position = 0, .begin = 38},
                                  {.document = (ls::index{1} << 32) - 1, .position = (ls::index{1} << 24) - 200, .begin = 70}};
    [[nodiscard]] ls::piece_table table(ls::index tokens) const { return {pieces, tokens}; }
};

template <class T>
std::vector<T> ramp(ls::index count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    for (std::size_t i = 0; i < values.size(); ++i)
        values[i] = ls::from_compute<T>(static_cast<ls::compute_t<T>>(1.0 + 0.01 * static_cast<double>(i % 91)));
    return values;
}

bool kept(const ls::piece& p, ls::index token, ls::index channel, ls::dropout_rate rate) {
    const auto block =
        ls::philox4x32(ls::token_counter(p.document, p.position + token - p.begin, channel / 16), ls::key_of(site));
    return ls::byte_of(block, channel % 16) >= rate.threshold();
}

template <class T>
void against_definition(ls::index tokens, ls::index width) {
    const batch of;
    const auto table = of.table(tokens);
    const ls::dropout_rate rate{0.3};
    const ls::index stride = width + 3;
    const auto x = ramp<T>(tokens * stride);
    auto y = std::vector<T>(x.size(), ls::from_compute<T>(std::numeric_limits<ls::compute_t<T>>::quiet_NaN()));
    ls::host::dropout(ls::matrix_view(x.data(), tokens, width, stride), ls::matrix_view(y.data(), tokens, width, stride), table,
                      rate, site);
    for (ls::index i = 0; i < table.count(); ++i)
        for (ls::index t = table.begin(i); t < std::min(table.end(i), tokens); ++t)
            for (ls::index c = 0; c < stride; ++c) {
                const auto at = static_cast<std::size_t>(t * stride + c);
                const auto got = ls::to_compute(y[at]);
                if (c >= width) {
                    REQUIRE(std::isnan(got));  // nothing beyond the row is written
                } else {
                    using C = ls::compute_t<T>;
                    const C want = kept(table[i], t, c, rate) ? ls::to_compute(x[at]) * rate.scale<C>() : C(0);
                    REQUIRE(got == ls::round_to<T>(want));
                }
            }
}

}  // namespace

TEST_CASE("dropout: is its definition, in every format, for widths around a group, a pack and a tile of the mask") {
    for (const ls::index width : {1, 15, 16, 17, 63, 130, 1040}) {
        against_definition<float>(150, width);
        against_definition<ls::bf16>(150, width);
    }
    against_definition<double>(150, 33);
    against_definition<ls::fp16>(150, 33);
    against_definition<float>(71, 2100);
}

TEST_CASE("dropout: random_bytes are the blocks' bytes, rows by position and groups by key, and keep_mask compares them") {
    const ls::philox_key key = ls::key_of(site);
    for (const ls::index rows : {1, 3, 5})
        for (const ls::index groups : {1, 4, 7}) {
            std::vector<std::uint8_t> bytes(static_cast<std::size_t>(rows * groups * 16 + 8), 0xcc);
            ls::host::random_bytes(key, ls::attention_map_counter(3, 2, 1000, 60), rows, groups, bytes.data());
            for (ls::index r = 0; r < rows; ++r)
                for (ls::index k = 0; k < 16 * groups; ++k)
                    REQUIRE(bytes[static_cast<std::size_t>(r * groups * 16 + k)] ==
                            ls::byte_of(ls::philox4x32(ls::attention_map_counter(3, 2, 1000 + r, 60 + k / 16), key), k % 16));
            for (std::size_t guard = bytes.size() - 8; guard < bytes.size(); ++guard) REQUIRE(bytes[guard] == 0xcc);
        }
    std::uint8_t bytes[16];
    for (int i = 0; i < 16; ++i) bytes[i] = static_cast<std::uint8_t>(i * 17);
    using ls::host::pack;
    const auto chosen = [](auto mask, auto one) { return select(mask, one, decltype(one)::zero()); };
    const auto floats = chosen(ls::host::keep_mask<float>(bytes, 136), pack<float>::broadcast(1.0f));
    const auto doubles = chosen(ls::host::keep_mask<double>(bytes + 8, 136), pack<double>::broadcast(1.0));
    for (int i = 0; i < 16; ++i) REQUIRE((floats[i] == 1.0f) == (bytes[i] >= 136));
    for (int i = 0; i < 8; ++i) REQUIRE((doubles[i] == 1.0) == (bytes[8 + i] >= 136));
}

TEST_CASE("dropout: a document's mask does not depend on where it lies, and in place is the same") {
    const ls::index width = 48;
    const std::vector<ls::piece> alone{{.document = 6, .position = 0, .begin = 0}};
    const std::vector<ls::piece> packed{{.document = 2, .position = 7, .begin = 0},
                                        {.document = 6, .position = 0, .begin = 91}};
    const auto x = ramp<float>(200 * width);
    std::vector<float> y(x.size());
    const ls::dropout_rate rate{0.1};
    ls::host::dropout(ls::matrix_view(x.data(), 100, width), ls::matrix_view(y.data(), 100, width), {alone, 100}, rate, site);
    std::vector<float> z(x.size());
    for (ls::index i = 0; i < 100 * width; ++i) z[static_cast<std::size_t>(91 * width + i)] = x[static_cast<std::size_t>(i)];
    const ls::matrix_view in_place(z.data(), 191, width);
    ls::host::dropout(in_place, in_place, {packed, 191}, rate, site);
    for (ls::index i = 0; i < 100 * width; ++i)
        REQUIRE(z[static_cast<std::size_t>(91 * width + i)] == y[static_cast<std::size_t>(i)]);
}

TEST_CASE("dropout: the share that is dropped is the rate, and a rate of 0 is a copy") {
    const ls::index tokens = 1000, width = 256;
    const std::vector<ls::piece> pieces{{.document = 0, .position = 0, .begin = 0}};
    const std::vector<float> x(static_cast<std::size_t>(tokens * width), 1.0f);
    std::vector<float> y(x.size());
    for (const double p : {0.0, 0.1, 0.5, 0.9}) {
        const ls::dropout_rate rate{p};
        ls::host::dropout(ls::matrix_view(x.data(), tokens, width), ls::matrix_view(y.data(), tokens, width), {pieces, tokens},
                          rate, site);
        double zeros = 0;
        for (const float v : y) {
            zeros += v == 0;
            REQUIRE((v == 0 || v == rate.scale()));
        }
        const double n = static_cast<double>(x.size()), q = rate.threshold() / 256.0;
        CHECK(std::abs(zeros / n - q) <= 5 * std::sqrt(q * (1 - q) / n));
    }
}

#if defined(_OPENMP)
TEST_CASE("dropout: 1, 2 and 3 threads agree to the bit") {
    const batch of;
    const ls::index tokens = 500, width = 70;
    const auto x = ramp<float>(tokens * width);
    std::vector<std::vector<float>> y(3, std::vector<float>(x.size()));
    const int before = omp_get_max_threads();
    for (int n = 1; n <= 3; ++n) {
        omp_set_num_threads(n);
        ls::host::dropout(ls::matrix_view(x.data(), tokens, width),
                          ls::matrix_view(y[static_cast<std::size_t>(n - 1)].data(), tokens, width), of.table(tokens),
                          ls::dropout_rate{0.2}, site);
    }
    omp_set_num_threads(before);
    CHECK(y[0] == y[1]);
    CHECK(y[0] == y[2]);
}
#endif

TEST_CASE("dropout: what does not fit is refused with what came") {
    std::vector<float> x(64);
    const std::vector<ls::piece> pieces{{.document = 0, .position = 0, .begin = 0}};
    const ls::matrix_view a(x.data(), 4, 16), b(x.data(), 4, 15);
    CHECK_THROWS_WITH_AS(ls::host::dropout(a, b, {pieces, 4}, ls::dropout_rate{0.1}, site),
                         "dropout: expected matrices of one shape, got [4, 16] and [4, 15]", ls::bad_argument);
    CHECK_THROWS_WITH_AS(ls::host::dropout(a, a, {pieces, 5}, ls::dropout_rate{0.1}, site),
                         "dropout: expected pieces that cover the 4 rows, got 1 pieces of 5 tokens", ls::bad_argument);
}
