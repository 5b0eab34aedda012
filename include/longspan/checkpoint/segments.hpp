// SPDX-License-Identifier: Apache-2.0
//
// One runner for the policies that keep or make again. A rule treats a run of blocks alike: the stream is kept at the start of
// every segment of k blocks, and of what each block saves the tensors worth at least `kept_from`; the rest is made again, a
// segment at a time, when its backward comes. The last segment of the stack is not: its backward follows at once. A policy is a
// list of rules, one after the other along the stack.
//
// Memory, of a stack of L blocks under one rule, with S a stream, K the kept tensors of a block and R its rest:
// (⌈L/k⌉ + k)·S + L·K + k·R, beside the scratch of one block. Every combination gives the same bits.
// Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174; Korthikanti et al., "Reducing Activation
// Recomputation in Large Transformer Models", arXiv:2205.05198.
#pragma once

#include <array>
#include <cstddef>

#include <longspan/checkpoint/detail/ring.hpp>
#include <longspan/checkpoint/detail/segment.hpp>
#include <longspan/checkpoint/policy.hpp>
#include <longspan/checkpoint/rule.hpp>

namespace longspan {

template <block_rule... Rules>
struct segment_policy;

namespace detail {

/// Segments of k blocks keep ⌈n/k⌉ + k streams: the shortest k with the least sum, since what else a segment holds grows with it.
[[nodiscard]] constexpr index root_segment(index blocks) {
    index best = 1;
    for (index k = 2; k <= blocks; ++k) {
        if (ceil_div(blocks, k) + k < ceil_div(blocks, best) + best) best = k;
    }
    return best;
}

/// The rule whose segments leave.
[[nodiscard]] constexpr block_rule leaving_rule(block_rule rule, index slots, bool may_wait) {
    rule.slots = slots, rule.may_wait = may_wait;
    return rule;
}

template <block_rule... Before, block_rule... Rules>
constexpr auto joined(segment_policy<Before...>, segment_policy<Rules...>) -> segment_policy<Before..., Rules...> {
    return {};
}

}  // namespace detail

/// A policy of one rule or several.
template <block_rule... Rules>
struct segment_policy {
    static constexpr std::size_t count = sizeof...(Rules);
    static constexpr std::array<block_rule, count> rules{Rules...};
    static_assert(count > 0 && ((Rules.segment >= 0 && Rules.blocks >= 0) && ...),
                  "segment_policy: at least one rule, with segments of 1 block or more (block_rule::square_root: as many as fits), for 0 (all that "
                  "follow) or more blocks");
    static_assert(((Rules.slots == 0 || Rules.slots >= 2) && ...),
                  "block_rule: slots are none, or at least 2");
    static constexpr index transfers = transfers_of_a_slot * (index{0} + ... + Rules.slots);
    static_assert(transfers <= most_transfers,
                  "offload<policy, slots>: the slots of all parts of a mixture are at most 21 together");
    /// Whether anything leaves for pinned memory, and whether that may take longer than the work beside it.
    static constexpr bool offloads = transfers > 0;
    static constexpr bool may_wait = ((Rules.slots == 0 || Rules.may_wait) && ...);
    static constexpr const char* name = [] {
        if (count > 1) return "mixture";
        if (offloads) {
            switch (rules[0].kept_from) {
                case cost::pass: return "offload of store_all";
                case cost::expansion: return "offload of selective_expansions";
                case cost::product: return "offload of selective_products";
                case cost::attention: return "offload of selective";
                case cost::output: break;
            }
            return rules[0].segment == block_rule::square_root ? "offload of recompute_root" : "offload of recompute_every";
        }
        switch (rules[0].kept_from) {
            case cost::pass: return "store_all";
            case cost::expansion: return "selective_expansions";
            case cost::product: return "selective_products";
            case cost::attention: return "selective";
            case cost::output: break;
        }
        return rules[0].segment == block_rule::square_root ? "recompute_root" : "recompute_every";
    }();

    /// The same for N blocks; what follows is said by `then`.
    template <index N>
    [[nodiscard]] static consteval auto for_blocks() {
        static_assert(count == 1, "for_blocks<n>: of one policy, before it is joined to others by then()");
        static_assert(N >= 1, "for_blocks<n>: a policy is for at least 1 block");
        constexpr block_rule rule = [] {
            block_rule same = rules[0];
            same.blocks = N;
            return same;
        }();
        return segment_policy<rule>{};
    }
    /// The same (an offload<policy>), also where a device would wait for the transfers.
    [[nodiscard]] static consteval auto even_if_slow() {
        static_assert(offloads, "even_if_slow(): of an offload<policy>; this policy keeps everything on the device");
        return segment_policy<detail::leaving_rule(Rules, Rules.slots, Rules.slots > 0)...>{};
    }
    /// This policy for as many blocks as it names, then `next`.
    template <block_rule... Next>
    [[nodiscard]] consteval auto then(segment_policy<Next...> next) const {
        static_assert(rules[count - 1].blocks > 0,
                      "then(): the policy before it is for all blocks; say for how many, with for_blocks<n>()");
        return detail::joined(segment_policy{}, next);
    }
    friend constexpr bool operator==(segment_policy, segment_policy) = default;

    /// Whether the rules name every block of a stack of `blocks`, and none beyond.
    [[nodiscard]] static constexpr bool covers(index blocks) {
        index named = 0;
        for (const block_rule& rule : rules) named += rule.blocks;
        return rules[count - 1].blocks == 0 ? named < blocks : named == blocks;
    }

    /// Where rule i lies in a stack of `blocks`.
    [[nodiscard]] static constexpr rule_extent extent(std::size_t i, index blocks) {
        rule_extent at{.from = rules[i].kept_from, .last = i + 1 == count, .slots = rules[i].slots};
        for (std::size_t before = 0; before < i; ++before) {
            at.begin += rules[before].blocks;
            at.transfers += transfers_of_a_slot * rules[before].slots;
        }
        at.blocks = rules[i].blocks > 0 ? rules[i].blocks : blocks - at.begin;
        at.length = rules[i].segment == block_rule::square_root ? detail::root_segment(at.blocks) : rules[i].segment;
        if (at.length > at.blocks) at.length = at.blocks;
        at.segments = ceil_div(at.blocks, at.length);
        return at;
    }

    /// Of a stack of `blocks`, how many make their tensors of that cost twice (`output`: their output).
    [[nodiscard]] static constexpr index made_again(cost what, index blocks) {
        index again = 0;
        for (std::size_t i = 0; i < count; ++i) {
            const rule_extent at = extent(i, blocks);
            const index segments = at.segments - (at.last ? 1 : 0);
            const index passed = at.last ? segments * at.length : at.blocks;
            if (what == cost::output) again += passed - segments;
            else if (what > cost::pass && what < at.from) again += passed;
        }
        return again;
    }

    [[nodiscard]] static constexpr layout plan(const stack_bytes& stack) { return together("activations", plan_from(0, stack)); }

    /// What leaves for pinned memory, as it lies there.
    [[nodiscard]] static constexpr layout pinned(const stack_bytes& stack) {
        layout all = together("pinned host memory");
        for (std::size_t i = 0; i < count; ++i) {
            const rule_extent at = extent(i, stack.blocks);
            if (at.leaving() == 0) continue;
            const layout kept = stack.saved.only([&](cost worth) { return worth >= at.from; });
            all.add(region("block input", stack.stream).repeated(at.streams_leaving(), "segment inputs"));
            all.add(kept.repeated(at.leaving() * at.length, "kept of a block"));
        }
        return all;
    }

    template <block_stack Stack, class First, class Turn>
    static void run(Stack& stack, arena& memory, First&& first, Turn&& turn) {
        static_assert(covers(Stack::blocks), "the policy's for_blocks<n>() name other blocks than the stack has");
        if constexpr (rules[0].slots > 0) {
            run_ring_from<0>(stack, memory, static_cast<typename Stack::stream*>(nullptr), first, turn);
        } else {
            typename Stack::stream input;
            input.hold(memory, stack.tokens());
            first(input);
            run_from<0>(stack, memory, input, turn);
        }
    }

private:
    /// The regions while rule i and those behind it run forward and backward; the input of rule 0 is among them.
    [[nodiscard]] static constexpr layout plan_from(std::size_t i, const stack_bytes& stack) {
        const rule_extent at = extent(i, stack.blocks);
        const index k = at.length, before = at.segments - 1;  // segments before the last one
        const layout stream = region("block input", stack.stream);
        const layout kept = stack.saved.only([&](cost worth) { return worth >= at.from; });
        const layout rest = stack.saved.only([&](cost worth) { return worth < at.from; });
        const auto held = [&](index inputs, index blocks) {
            if (at.slots > 0) {  // whichever segments are there, and behind the rule its output
                return together("ring", stream.repeated(at.streams_held() + (!at.last && inputs == at.segments ? 1 : 0), "segment inputs"),
                                kept.repeated(at.slots_used() * k, "kept of a block"));
            }
            return together("", stream.repeated(inputs + (i == 0 ? 1 : 0), "segment inputs"),
                            kept.repeated(blocks, at.from == cost::pass ? "saved by a block" : "kept of a block"));
        };
        const auto whole = [&](index blocks) {
            return together("", rest.repeated(blocks, at.from == cost::output ? "saved by a block" : "rest of a block"),
                            stream.repeated(blocks - 1));
        };
        // A segment passes with two streams at most between its blocks, which alternate, and the rest of one block.
        const auto passing = [&](index inputs, index blocks, index length) {
            return together("segment without saving", held(inputs, blocks), stream.repeated(length > 2 ? 2 : length - 1), rest,
                            stack.forward_scratch);
        };
        // Made again, the last block of a segment needs no output, so what is needed for outputs alone is for one block less.
        const auto again = [&](index inputs, index blocks, index length) {
            const auto scratch = [&](bool output) {
                return stack.forward_scratch.only([&](cost made) { return output ? made == cost::output : made < at.from; });
            };
            layout moments = either("", together("whole", whole(length), either("", scratch(false), stack.backward_scratch)));
            if (length > 1) moments.add(together("up to its last block", whole(length - 1), stream, scratch(true)));
            return together("segment made again", held(inputs, blocks), moments);
        };
        if (at.last) {
            const layout all =
                together("", held(before, at.blocks),
                         together("last segment", whole(at.length_of(before)),
                                  either("",
                                         together("", region("last output", stack.stream),
                                                  either("", stack.forward_scratch, stack.turn)),
                                         stack.backward_scratch)));
            // With segments of one block the turn holds more than any other moment: one block whole, and an output.
            if (k == 1 || before == 0) return all;
            return either("", all, passing(before, before * k, k), again(before - 1, before * k, k));
        }
        const layout all = together("", held(at.segments, at.blocks), plan_from(i + 1, stack));
        if (k == 1) return all;
        const index tail = at.slots > 0 ? k : at.length_of(before);  // a ring is as large for every segment: the longest has most
        layout moments = either("", all, passing(at.segments, at.blocks, tail), again(before, at.blocks, tail));
        if (tail < k) moments.add(again(before - 1, before * k, k));  // a shorter last segment takes less than the one before
        return moments;
    }

    /// Blocks of rule I and all behind it, forward and backward, from the stream that enters the first of them.
    template <std::size_t I, class Stack, class Turn>
    static void run_from(Stack& stack, arena& memory, typename Stack::stream& input, Turn& turn) {
        if constexpr (rules[I].slots > 0) run_ring_from<I>(stack, memory, &input, [](auto&) {}, turn);
        else run_kept_from<I>(stack, memory, input, turn);
    }
    template <std::size_t I, class Stack, class Turn>
    static void run_kept_from(Stack& stack, arena& memory, typename Stack::stream& input, Turn& turn) {
        using stream = typename Stack::stream;
        constexpr rule_extent at = extent(I, Stack::blocks);
        constexpr index passed = at.segments - (at.last ? 1 : 0);
        std::array<detail::kept_segment<Stack, at.length>, static_cast<std::size_t>(at.segments)> segments;
        const auto segment = [&](index s) -> auto& { return segments[static_cast<std::size_t>(s)]; };
        const auto enters = [&](index s) -> stream& { return s == 0 ? input : segment(s - 1).output; };
        const auto keep = [&](index s) {
            for (index b = 0; b < at.length_of(s); ++b) segment(s).kept[static_cast<std::size_t>(b)].hold(memory, stack.tokens(), at.from);
        };

        for (index s = 0; s < passed; ++s) {
            keep(s);
            segment(s).output.hold(memory, stack.tokens());
            detail::pass_segment<at.length>(stack, memory, at.begin + s * at.length, at.length_of(s), enters(s), segment(s).kept,
                                            segment(s).output);
        }
        const auto drop = [&](index s) {
            for (index b = at.length_of(s) - 1; b >= 0; --b) segment(s).kept[static_cast<std::size_t>(b)].drop();
        };
        if constexpr (at.last) {
            keep(passed);
            detail::return_segment<at.length, cost::output>(stack, memory, at.begin + passed * at.length, at.length_of(passed), enters(passed),
                                                            segment(passed).kept, &turn);
            drop(passed);
        } else {
            run_from<I + 1>(stack, memory, segment(passed - 1).output, turn);
        }
        for (index s = passed - 1; s >= 0; --s) {
            segment(s).output.drop();
            detail::return_segment<at.length, at.from>(stack, memory, at.begin + s * at.length, at.length_of(s), enters(s), segment(s).kept,
                                                       static_cast<Turn*>(nullptr));
            drop(s);
        }
    }

    /// The same of a rule whose segments leave; the stream that enters is there, or is made by `fill`.
    template <std::size_t I, class Stack, class Fill, class Turn>
    static void run_ring_from(Stack& stack, arena& memory, typename Stack::stream* entered, Fill&& fill, Turn& turn) {
        static_assert(offloading_stack<Stack>, "offload: the stack has no pinned memory, or does not say how tensors leave for it");
        if constexpr (offloading_stack<Stack>) {
            detail::run_ring<extent(I, Stack::blocks)>(stack, memory, entered, fill, turn, [&](typename Stack::stream& output) {
                if constexpr (I + 1 < count) run_from<I + 1>(stack, memory, output, turn);
                else (void)output;
            });
        }
    }
};

}  // namespace longspan
