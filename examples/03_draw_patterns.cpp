// SPDX-License-Identifier: Apache-2.0
//
// Draws the pictures of docs/patterns.md into a folder:
//     draw_patterns docs/patterns
#include <fstream>
#include <iostream>
#include <string>

#include <longspan/pattern/band.hpp>
#include <longspan/pattern/block_list.hpp>
#include <longspan/pattern/blocks.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/draw.hpp>
#include <longspan/pattern/strided.hpp>
#include <longspan/pattern/strip.hpp>

namespace ls = longspan;

namespace {

// A map of 8 × 8 tokens: the first block, the neighbours, and every third block.
constexpr auto map = ls::block_map_of<8, 6>([](ls::index q, ls::index k) { return k == 0 || q - k < 2 || (q + k) % 3 == 0; });

bool save(const std::string& folder, const std::string& name, const std::string& picture) {
    std::ofstream file(folder + "/" + name + ".svg", std::ios::binary);
    file << picture;
    file.close();
    if (!file) std::cerr << "draw_patterns: cannot write " << folder << "/" << name << ".svg\n";
    return static_cast<bool>(file);
}

}  // namespace

int main(int count, char** words) {
    if (count != 2) {
        std::cerr << "usage: draw_patterns FOLDER\n";
        return 2;
    }
    const ls::index prefixes[]{20};
    const ls::piece pieces[]{{0, 0, 0}, {1, 0, 21}, {2, 0, 32}};
    const ls::drawing packed{.documents = pieces};

    bool saved = true;
    const auto draw = [&](const char* name, const auto pattern, const auto&... how) { saved = save(words[1], name, ls::draw(pattern, how...)) && saved; };
    draw("full", ls::full);
    draw("causal", ls::causal);
    draw("window", ls::window<10>);
    draw("causal_window", ls::causal & ls::window<20>);
    draw("window_or_first", ls::causal & (ls::window<20> | ls::first<4>));
    draw("dilated_window", ls::causal & ls::dilated_window<6, 3>);
    draw("global", ls::window<8> | ls::global<4>);
    draw("prefix", ls::causal | ls::prefix, ls::drawing{}, ls::prefix_lengths{prefixes});
    draw("strided", ls::causal & (ls::window<6> | ls::strided<6>));
    draw("blocks", ls::causal & ls::blocks<map>);
    draw("documents", ls::causal & (ls::window<12> | ls::first<2>), packed);
    return saved ? 0 : 1;
}
