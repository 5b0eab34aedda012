// SPDX-License-Identifier: Apache-2.0
//
// A rule whose segments leave. What is kept of segment s lies in slot s mod R of a ring of R: on the way forward it leaves for pinned
// memory while the next segments run, on the way back it returns while those behind it do. The slots turn as follows, for R = 2:
//
//     forward s    reads the stream in slot s, writes what is kept there and the stream of slot s + 1. So before it, what was kept of
//                  segment s − 2 and the stream that entered segment s − 1 must have left.
//     backward s   reads slot s, which then is free: segment s − 2 returns into it while segment s − 1 runs.
//
// A stream may leave as soon as it is there, while its segment reads it; what is kept leaves behind its segment. The last R segments
// never leave. Every transfer is waited for once, before its bytes on the device are written or read: nothing else orders copies and work.
#pragma once

#include <array>
#include <cstddef>

#include <longspan/checkpoint/detail/segment.hpp>
#include <longspan/checkpoint/policy.hpp>
#include <longspan/checkpoint/rule.hpp>

namespace longspan::detail {

template <rule_extent At, class Stack>
class ring {
    using stream = typename Stack::stream;
    struct place {
        stream input;
        kept_blocks<Stack, At.length> kept;
    };
    static constexpr index leaving = At.leaving();

public:
    /// `entered`: the stream that enters the rule's first block, where others made it; null in a rule that is the first.
    ring(Stack& stack, arena& memory, stream* entered) : stack_(stack), memory_(memory), entered_(entered) {
        for (index slot = 0; slot < At.slots_used(); ++slot) {
            if (At.holds_stream(slot)) of(slot).input.hold(memory, stack.tokens());
            for (auto& saved : of(slot).kept) saved.hold(memory, stack.tokens(), At.from);
        }
    }

    [[nodiscard]] stream& enters(index s) { return s == 0 && entered_ ? *entered_ : of(s).input; }

    /// Segment s forward, which is not the stack's last; its output goes to the next segment's slot, or to `output` behind the last one.
    void forward(index s, stream* output) {
        free_kept(s);
        free_stream(s + 1);
        if constexpr (leaving > 0) {
            if (s < leaving && in_ring(s)) {
                away(s).input.hold(stack_.pinned(), stack_.tokens());
                stack_.leave(number(s, stream_gone), of(s).input, away(s).input);
            }
        }
        pass_segment<At.length>(stack_, memory_, At.begin + s * At.length, At.length_of(s), enters(s), of(s).kept,
                                s + 1 < At.segments ? of(s + 1).input : *output);
        if constexpr (leaving > 0) {
            if (s >= leaving) return;
            each_kept(s, [&](auto& from, auto& to) {
                to.hold(stack_.pinned(), stack_.tokens(), At.from);
                stack_.leave(number(s, kept_gone), from, to);
            });
        }
    }

    /// The stack's last segment, forward, turned and back.
    template <class Turn>
    void turn(Turn& turn) {
        free_kept(At.segments - 1);
        back<cost::output>(At.segments - 1, &turn);
    }

    /// Segment s back. The one before it in its slot returns meanwhile, from when s has done.
    template <cost From, class Turn>
    void back(index s, Turn* turn) {
        if constexpr (leaving > 0) {
            if (s < leaving) arrive(s);
        }
        return_segment<At.length, From>(stack_, memory_, At.begin + s * At.length, At.length_of(s), enters(s), of(s).kept, turn);
        if constexpr (leaving > 0) {
            if (s >= At.slots) call_back(s - At.slots);
        }
    }

private:
    enum transfer : index { stream_gone, kept_gone, back_here, transfers };

    [[nodiscard]] place& of(index s) { return places_[static_cast<std::size_t>(s % At.slots)]; }
    [[nodiscard]] place& away(index s) { return away_[static_cast<std::size_t>(s)]; }
    [[nodiscard]] bool in_ring(index s) const { return s > 0 || !entered_; }
    [[nodiscard]] static constexpr index number(index s, transfer what) { return At.transfers + transfers * (s % At.slots) + what; }

    /// Waits until what segment s writes over has left.
    void free_kept(index s) {
        if (s >= At.slots) stack_.wait(number(s, kept_gone));
    }
    void free_stream(index s) {
        if (s < At.segments && s >= At.slots && in_ring(s - At.slots)) stack_.wait(number(s, stream_gone));
    }
    void call_back(index s) {
        if (in_ring(s)) stack_.fetch(number(s, back_here), of(s).input, away(s).input);
        each_kept(s, [&](auto& to, auto& from) { stack_.fetch(number(s, back_here), to, from); });
    }
    void arrive(index s) {
        stack_.wait(number(s, back_here));
        for (index b = At.length - 1; b >= 0; --b) away(s).kept[static_cast<std::size_t>(b)].drop();
        away(s).input.drop();
    }
    /// Calls f(what is kept of a block here, its place away) for the blocks of a segment that leaves: these are as long as any.
    template <class F>
    void each_kept(index s, F&& f) {
        for (std::size_t b = 0; b < static_cast<std::size_t>(At.length); ++b) f(of(s).kept[b], away(s).kept[b]);
    }

    Stack& stack_;
    arena& memory_;
    stream* entered_;
    std::array<place, static_cast<std::size_t>(At.slots_used())> places_;
    std::array<place, static_cast<std::size_t>(leaving)> away_;
};

/// Blocks of a rule whose segments leave, and all behind it by `next(the stream that leaves the rule)`, forward and backward. `fill` makes
/// the stream that enters, where there is none yet.
template <rule_extent At, class Stack, class Fill, class Turn, class Next>
    requires offloading_stack<Stack>
void run_ring(Stack& stack, arena& memory, typename Stack::stream* entered, Fill&& fill, Turn& turn, Next&& next) {
    ring<At, Stack> slots(stack, memory, entered);
    if (!entered) fill(slots.enters(0));
    typename Stack::stream output;
    if constexpr (!At.last) output.hold(memory, stack.tokens());
    constexpr index passed = At.segments - (At.last ? 1 : 0);
    for (index s = 0; s < passed; ++s) slots.forward(s, &output);
    if constexpr (At.last) slots.turn(turn);
    else next(output);
    output.drop();
    for (index s = passed - 1; s >= 0; --s) slots.template back<At.from>(s, static_cast<Turn*>(nullptr));
}

}  // namespace longspan::detail
