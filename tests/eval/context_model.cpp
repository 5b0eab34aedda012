// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <map>

#include <longspan/data/text_documents.hpp>
#include <longspan/eval/context_model.hpp>

namespace ls = longspan;
using ls::index;

namespace {

/// The same model from its formula, with whole strings as contexts.
struct reference {
    int order;
    std::map<std::string, std::map<char, double>> followers;

    void fit(const std::string& text) {
        for (std::size_t at = 0; at < text.size(); ++at)
            for (std::size_t n = 0; n <= std::min(at, static_cast<std::size_t>(order)); ++n) ++followers[text.substr(at - n, n)][text[at]];
    }
    [[nodiscard]] double probability(const std::string& context, int n, char byte) const {
        if (n < 0) return 1.0 / 256;
        const double shorter = probability(context, n - 1, byte);
        if (context.size() < static_cast<std::size_t>(n)) return shorter;
        const auto found = followers.find(context.substr(context.size() - static_cast<std::size_t>(n)));
        if (found == followers.end()) return shorter;
        double times = 0;
        for (const auto& [next, count] : found->second) times += count;
        const double novel = static_cast<double>(found->second.size());
        const auto seen = found->second.find(byte);
        return ((seen == found->second.end() ? 0 : seen->second) + novel * shorter) / (times + novel);
    }
    [[nodiscard]] double bits_per_byte(const std::string& text, int n) const {
        double bits = 0;
        for (std::size_t at = 1; at < text.size(); ++at) bits -= std::log2(probability(text.substr(0, at), n, text[at]));
        return bits / static_cast<double>(text.size() - 1);
    }
};

std::string prose(std::size_t length, std::uint64_t seed) {
    const char* const words[] = {"the ", "of ", "matrix ", "vector ", "is ", "a ", "row\n", "product ", "\xc3\xa4 "};
    std::string text;
    for (std::uint64_t i = 0; text.size() < length; ++i) text += words[ls::mix64(seed + i) % 9];
    return text.substr(0, length);
}

}  // namespace

TEST_CASE("context_model: the figures of the formula, for every order") {
    const std::vector<std::string> train{prose(700, 1), "", "x", prose(300, 5000)};
    const std::string measured = prose(400, 9000) + "never seen: \x01\xff";
    reference expected{5, {}};
    for (const std::string& text : train) expected.fit(text);
    ls::context_model model(5);
    model.fit(ls::text_documents(train));
    const std::vector<double> bits = model.bits_per_byte(ls::text_documents{measured});
    REQUIRE(bits.size() == 6);
    for (int n = 0; n <= 5; ++n) CHECK(bits[static_cast<std::size_t>(n)] == doctest::Approx(expected.bits_per_byte(measured, n)).epsilon(1e-12));
    CHECK(bits[1] < bits[0]);
    CHECK(bits[2] < bits[1]);
    CHECK_FALSE(model.full());
}

TEST_CASE("context_model: a model that has seen nothing says 8 bits, one that has seen it all says little") {
    ls::context_model model;
    CHECK(model.bits_per_byte(ls::text_documents{"any text"}) == std::vector<double>(4, 8.0));
    const std::string text = std::string(5000, 'a');
    model.fit(ls::text_documents{text});
    CHECK(model.bits_per_byte(ls::text_documents{text}).back() < 0.01);
}

TEST_CASE("context_model: contexts do not reach into another document, and a source may be read in parts") {
    ls::context_model together(3), apart(3);
    together.fit(ls::text_documents{"abab", "cdcd"});
    apart.fit(ls::text_documents{"abab"});
    apart.fit(ls::text_documents{"cdcd"});
    const ls::text_documents measured{"abcd", "dcba"};
    CHECK(together.bits_per_byte(measured) == apart.bits_per_byte(measured));
    CHECK(together.entries() == apart.entries());
    // A long document is read in lines of 64 KiB: the context goes on behind them.
    ls::context_model line(1);
    line.fit(ls::text_documents{std::string(65536, 'a') + 'b'});
    const double without = (1 + 2.0 / 256) / 65539, behind_a = (1 + 2 * without) / 65538;
    CHECK(line.bits_per_byte(ls::text_documents{"ab"})[0] == doctest::Approx(-std::log2(without)));
    CHECK(line.bits_per_byte(ls::text_documents{"ab"})[1] == doctest::Approx(-std::log2(behind_a)));
}

TEST_CASE("context_model: probabilities sum to one, also when the tables are full") {
    for (const index most : {index{10}, index{50}, index{1} << 20}) {
        ls::context_model model(2, most);
        model.fit(ls::text_documents{prose(2000, 7)});
        CHECK(model.full() == (most < 1000));
        CHECK(model.entries() <= most);
        for (const std::string context : {"th", "zz", "\n ", " v"}) {
            std::vector<double> sum(3, 0.0);
            const std::vector<double> before = model.bits_per_byte(ls::text_documents{context});
            for (int byte = 0; byte < 256; ++byte) {
                const auto bits = model.bits_per_byte(ls::text_documents{context + static_cast<char>(byte)});
                for (std::size_t n = 0; n < 3; ++n) sum[n] += std::exp2(-(2 * bits[n] - before[n]));
            }
            for (const double s : sum) CHECK(s == doctest::Approx(1).epsilon(1e-9));
        }
    }
}

TEST_CASE("context_model: what it cannot measure is refused with a sentence") {
    CHECK_THROWS_WITH_AS(ls::context_model(7),
                         "The order of a context model is 0 to 6, so that a context and a byte fit into a word; it is 7.",
                         ls::bad_argument);
    CHECK_THROWS_AS(ls::context_model(-1), ls::bad_argument);
    CHECK_THROWS_AS(ls::context_model(3, 0), ls::bad_argument);
    CHECK_THROWS_WITH_AS((void)ls::context_model().bits_per_byte(ls::text_documents{"", "a"}),
                         "Bits per byte need a document of at least 2 bytes; there is none among 2.", ls::bad_corpus);
    struct wide : ls::text_documents {
        [[nodiscard]] static constexpr index vocabulary() { return 50304; }
    };
    ls::context_model model;
    CHECK_THROWS_WITH_AS(model.fit(wide{}), "A context model reads bytes, a vocabulary of 256; the source has 50304.", ls::bad_argument);
}
