// SPDX-License-Identifier: Apache-2.0
//
// One segment of checkpoint/segments.hpp, forward and backward, wherever what is kept of it lies.
#pragma once

#include <array>
#include <cstddef>

#include <longspan/core/types.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/memory/layout.hpp>

namespace longspan::detail {

/// The rest of what a block saves, for as long as this lives.
template <class Saved>
struct held_rest {
    explicit held_rest(Saved& of) : of_(of) {
        try {
            of_.hold_rest();
        } catch (...) {  // what was taken before the one that found no room, since nothing destroys what was never made
            of_.drop_rest();
            throw;
        }
    }
    held_rest(const held_rest&) = delete;
    ~held_rest() { of_.drop_rest(); }
    Saved& of_;
};

/// What is kept of a segment, a block's beside the other's.
template <class Stack, index Length>
using kept_blocks = std::array<typename Stack::saved, static_cast<std::size_t>(Length)>;

/// What is kept of a segment, in the order in which it is taken; given back in the opposite one, by an exception too.
template <class Stack, index Length>
struct kept_segment {
    kept_blocks<Stack, Length> kept;
    typename Stack::stream output;
};

/// A block of the segment whose backward is next: the rest of what it saves, and what the block behind it reads.
template <class Stack>
struct whole_block {
    typename Stack::saved* saved = nullptr;
    typename Stack::stream output;
    whole_block() = default;
    whole_block(const whole_block&) = delete;
    ~whole_block() {
        output.drop();
        if (saved) saved->drop_rest();
    }
};

/// A segment forward: what is kept of its blocks, and its output.
template <index Length, class Stack>
void pass_segment(Stack& stack, arena& memory, index begin, index blocks, typename Stack::stream& input, kept_blocks<Stack, Length>& kept,
                  typename Stack::stream& output) {
    typename Stack::stream between[2];  // they alternate: a block reads one and writes the other
    for (index i = 0; i < 2 && i < blocks - 1; ++i) between[i].hold(memory, stack.tokens());
    for (index b = 0; b < blocks; ++b) {
        auto& saved = kept[static_cast<std::size_t>(b)];
        const held_rest rest(saved);
        stack.forward(begin + b, b == 0 ? input : between[(b - 1) % 2], b + 1 == blocks ? &output : &between[b % 2], saved);
    }
}

/// A segment made whole, then backward; what is kept of it stays. With a turn it is the last one: everything is made for the first time,
/// and its output goes to the turn.
template <index Length, cost From, class Stack, class Turn>
void return_segment(Stack& stack, arena& memory, index begin, index blocks, typename Stack::stream& input, kept_blocks<Stack, Length>& kept,
                    Turn* turn) {
    std::array<whole_block<Stack>, static_cast<std::size_t>(Length)> whole;
    const auto at = [&](index b) -> whole_block<Stack>& { return whole[static_cast<std::size_t>(b)]; };
    const auto enters = [&](index b) -> typename Stack::stream& { return b == 0 ? input : at(b - 1).output; };
    for (index b = 0; b < blocks; ++b) {
        at(b).saved = &kept[static_cast<std::size_t>(b)];
        at(b).saved->hold_rest();
        const bool needed = b + 1 < blocks || turn;
        if (needed) at(b).output.hold(memory, stack.tokens());
        if constexpr (From > cost::pass || Length > 1) {
            stack.template forward<From>(begin + b, enters(b), needed ? &at(b).output : nullptr, *at(b).saved);
        }
    }
    if (turn) {
        (*turn)(at(blocks - 1).output);
        at(blocks - 1).output.drop();
    }
    for (index b = blocks - 1; b >= 0; --b) {
        stack.backward(begin + b, enters(b), *at(b).saved);
        at(b).saved->drop_rest();
        if (b > 0) at(b - 1).output.drop();
    }
}

}  // namespace longspan::detail
