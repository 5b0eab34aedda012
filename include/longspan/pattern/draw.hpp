// SPDX-License-Identifier: Apache-2.0
//
// A picture of a pattern as SVG text: a square per element that is seen, over tiles in the colour of their class, queries
// downwards, keys to the right. Full tiles are blue, partial ones orange, empty ones stay white, so that a picture shows at a
// glance what a kernel skips, tests and takes whole. For documentation and debugging: O(tokens²) time, the text in memory.
// longspan.hpp does not include this header.
#pragma once

#include <span>
#include <string>

#include <longspan/pattern/documents.hpp>

namespace longspan {

/// What to draw; lengths in tokens.
struct drawing {
    index tokens = 48;
    index tile = 8;
    std::span<const piece> documents{};  ///< empty: one document
    index pixels = 8;                    ///< per token
};

/// The mask of a pattern as a complete SVG document. *Allocates.*
template <pattern P>
[[nodiscard]] std::string draw(P, const drawing& how = {}, const typename P::arguments& a = {}) {
    const piece alone{};
    const piece_list batch = how.documents.empty() ? piece_list{&alone, 1, how.tokens} : piece_list{piece_table{how.documents, how.tokens}};
    const auto number = [](index n) { return std::to_string(n); };
    const auto shorter = [](index a_, index b) { return a_ < b ? a_ : b; };

    std::string tiles, of_full, of_partial;
    for (index top = 0; top < how.tokens; top += how.tile) {
        const index bottom = shorter(top + how.tile, how.tokens);
        for_each_run<P>(a, batch, {top, bottom}, how.tile, [&](tile_run run) {
            const bool whole = run.kind == tile_class::full;
            const index left = run.first * how.tile, right = shorter(run.last * how.tile, how.tokens);
            tiles += "<rect x=\"" + number(left) + "\" y=\"" + number(top) + "\" width=\"" + number(right - left) + "\" height=\"" +
                     number(bottom - top) + "\" fill=\"" + (whole ? "#cfe1f2" : "#fde5cd") + "\"/>\n";
            // A stretch of seen elements is one dashed line; its dashes are the squares.
            std::string& path = whole ? of_full : of_partial;
            for (index q = top; q < bottom; ++q) {
                for (index k = left; k < right;) {
                    index end = k;
                    while (end < right && contains<P>(a, batch, q, end)) ++end;
                    if (end > k) path += "M" + number(k) + " " + number(q) + "h" + number(end - k - 1) + ".7";
                    k = end > k ? end : k + 1;
                }
            }
        });
    }
    std::string grid;
    for (index at = 0; at < how.tokens + how.tile; at += how.tile) {
        const std::string place = number(shorter(at, how.tokens)), length = number(how.tokens);
        grid += "M0 " + place + "h" + length + "M" + place + " 0v" + length;
    }
    const std::string side = number(how.tokens * how.pixels + 24);
    const auto squares = [](const std::string& path, const char* colour) {
        return "<path transform=\"translate(.15 .5)\" stroke=\"" + std::string(colour) + "\" stroke-width=\".7\" stroke-dasharray=\".7 .3\" d=\"" + path + "\"/>\n";
    };
    return "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"" + side + "\" height=\"" + side + "\" viewBox=\"0 0 " + side + " " + side + "\">\n" +
           "<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
           "<g font-family=\"sans-serif\" font-size=\"11\" fill=\"#555\"><text x=\"20\" y=\"13\">keys \xe2\x86\x92</text>"
           "<text transform=\"translate(13 20) rotate(90)\">queries \xe2\x86\x92</text></g>\n"
           "<g transform=\"translate(20 20) scale(" + number(how.pixels) + ")\" fill=\"none\">\n" +
           tiles + squares(of_full, "#2b6cb0") + squares(of_partial, "#c05621") +
           "<path stroke=\"#999\" stroke-width=\".06\" d=\"" + grid + "\"/>\n</g>\n</svg>\n";
}

}  // namespace longspan
