// SPDX-License-Identifier: Apache-2.0
//
// Copies to pinned memory and back (longspan/memory/transfer.hpp) at the worst time that the contract allows: done when they are waited
// for and no earlier, or done when they are asked for and no later. Bytes that hold nothing are made to: those that a fetch will write,
// and those that have left. So what is read, written over, or sent before its time is not what it should be.
#pragma once

#include <algorithm>
#include <array>
#include <cstddef>
#include <vector>

#include <longspan/memory/transfer.hpp>

namespace late {

using longspan::bytes;
using longspan::index;

class copies {
public:
    bool at_once = false;

    template <class Pieces>
    void leave(index number, Pieces&& pieces) {
        pieces([&](std::byte* here, std::byte* away, bytes size) { ask(number, {here, away, size, true}); });
    }
    template <class Pieces>
    void fetch(index number, Pieces&& pieces) {
        pieces([&](std::byte* here, std::byte* away, bytes size) {
            std::fill_n(here, size, poison);
            ask(number, {away, here, size, false});
        });
    }
    void wait(index number) {
        for (const piece& p : of(number)) {
            if (!at_once) std::copy_n(p.from, p.size, p.to);
            if (p.leaves) std::fill_n(p.from, p.size, poison);
        }
        of(number).clear();
    }
    /// Whether all that was asked for was waited for. Forgets it.
    bool settled() {
        bool all = true;
        for (auto& pending : asked_) all = all && pending.empty(), pending.clear();
        return all;
    }

private:
    static constexpr std::byte poison{0xff};
    struct piece {
        std::byte *from, *to;
        bytes size;
        bool leaves;
    };
    std::vector<piece>& of(index number) { return asked_.at(static_cast<std::size_t>(number)); }
    void ask(index number, const piece& p) {
        of(number).push_back(p);
        if (at_once) std::copy_n(p.from, p.size, p.to);
    }
    std::array<std::vector<piece>, static_cast<std::size_t>(longspan::most_transfers)> asked_;
};

}  // namespace late
