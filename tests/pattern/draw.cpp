// SPDX-License-Identifier: Apache-2.0
#include <longspan/pattern/draw.hpp>

#include <doctest/doctest.h>

#include <fstream>
#include <iterator>
#include <string>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace ls = longspan;

namespace {

long occurrences(const std::string& text, const std::string& word) {
    long count = 0;
    for (std::size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + 1)) ++count;
    return count;
}

// The picture of docs/patterns, beside which this file lies in the repository.
std::string committed(const std::string& name) {
    const std::string here = __FILE__;
    std::ifstream file(here.substr(0, here.rfind("tests/pattern/")) + "docs/patterns/" + name + ".svg", std::ios::binary);
    return {std::istreambuf_iterator<char>(file), {}};
}

}  // namespace

TEST_CASE("draw: tiles in the colours of their classes, a dash per seen element") {
    // Causal over 10 tokens in tiles of 4: full tiles below the diagonal in two rows, partial ones on it.
    const std::string picture = ls::draw(ls::causal, {.tokens = 10, .tile = 4});
    CHECK(occurrences(picture, "fill=\"#cfe1f2\"") == 2);
    CHECK(occurrences(picture, "fill=\"#fde5cd\"") == 3);
    CHECK(picture.find("<rect x=\"0\" y=\"8\" width=\"8\" height=\"2\" fill=\"#cfe1f2\"/>") != std::string::npos);
    CHECK(picture.find("M8 9h1.7\"") != std::string::npos);
    CHECK(picture.substr(0, 5) == "<svg ");
    CHECK(picture.substr(picture.size() - 7) == "</svg>\n");
}

TEST_CASE("draw: documents do not see each other") {
    const ls::piece pieces[]{{0, 0, 0}, {1, 0, 4}};
    const std::string picture = ls::draw(ls::full, {.tokens = 8, .tile = 4, .documents = pieces});
    CHECK(occurrences(picture, "h3.7") == 8);
    CHECK(occurrences(picture, "fill=\"#cfe1f2\"") == 2);
    CHECK(occurrences(picture, "fill=\"#fde5cd\"") == 0);
}

TEST_CASE("draw: the committed pictures are what the library draws (examples/03_draw_patterns)") {
    const ls::index prefixes[]{20};
    CHECK(committed("causal") == ls::draw(ls::causal));
    CHECK(committed("window_or_first") == ls::draw(ls::causal & (ls::window<20> | ls::first<4>)));
    CHECK(committed("prefix") == ls::draw(ls::causal | ls::prefix, {}, {prefixes}));
}
