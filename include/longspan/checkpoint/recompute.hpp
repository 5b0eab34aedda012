// SPDX-License-Identifier: Apache-2.0
//
// recompute_every<k>: keep the stream at the start of every segment of k blocks; in the backward pass run each segment forward
// once more, this time saving. The last segment is saved the first time, since its backward follows at once. store_all is the
// segment as long as the stack: everything is saved, nothing recomputed.
//
// Memory: ⌈L/k⌉ + k streams and k blocks' saved tensors, for one more forward of all blocks but the last segment's. k = √L is
// the least sum of streams. Reference: Chen et al., "Training Deep Nets with Sublinear Memory Cost", arXiv:1604.06174.
#pragma once

#include <array>

#include <longspan/checkpoint/policy.hpp>

namespace longspan {

namespace detail {

/// One policy for both: Every = 0 stands for the whole stack in one segment.
template <index Every>
struct segment_policy {
    static constexpr const char* name = Every == 0 ? "store_all" : "recompute_every";
    static constexpr index every = Every;

    /// Blocks in a segment of a stack of `blocks`.
    [[nodiscard]] static constexpr index length(index blocks) { return Every == 0 || Every > blocks ? blocks : Every; }
    [[nodiscard]] static constexpr index segments(index blocks) { return ceil_div(blocks, length(blocks)); }
    /// Blocks that run forward twice.
    [[nodiscard]] static constexpr index recomputed(index blocks) { return (segments(blocks) - 1) * length(blocks); }

    [[nodiscard]] static constexpr layout plan(const stack_bytes& stack) {
        const index k = length(stack.blocks);
        const index full = segments(stack.blocks) - 1;  // segments before the last one
        const index last = stack.blocks - full * k;
        const layout stream = region("block input", stack.stream);
        const auto stored = [&](index count) {
            return together("stored segment", stack.saved.repeated(count), stream.repeated(count - 1));
        };
        const layout turning =
            together("last segment", stored(last),
                     either("", together("", region("last output", stack.stream), either("", stack.forward_scratch, stack.turn)),
                            stack.backward_scratch));
        const layout inputs = stream.repeated(full + 1, "segment inputs");
        if (full == 0) return together("activations", inputs, turning);
        // An earlier segment runs with the inputs up to its own (and, going forward, the next one's) held below it.
        const layout passing = together("forward without saving", stack.saved, stream.repeated(k > 2 ? 2 : k - 1), stack.forward_scratch);
        const layout inputs_before = stream.repeated(full, "segment inputs");
        const layout again = together("recomputed segment", inputs_before, stored(k), either("", stack.forward_scratch, stack.backward_scratch));
        return either("activations", together("", inputs, either("", passing, turning)), again);
    }

    template <block_stack Stack, class First, class Turn>
    static void run(Stack& stack, arena& memory, First&& first, Turn&& turn) {
        constexpr index blocks = Stack::blocks;
        constexpr index k = length(blocks);
        constexpr index full = segments(blocks) - 1;
        using stream = typename Stack::stream;
        using saved = typename Stack::saved;
        const index tokens = stack.tokens();

        std::array<stream, static_cast<std::size_t>(full + 1)> inputs;
        const auto input = [&](index s) -> stream& { return inputs[static_cast<std::size_t>(s)]; };
        input(0).hold(memory, tokens);
        first(input(0));

        for (index s = 0; s < full; ++s) {
            input(s + 1).hold(memory, tokens);
            saved passing(memory, tokens);
            stream between[2];  // they alternate: a block reads one and writes the other
            if (k > 1) between[0].hold(memory, tokens);
            if (k > 2) between[1].hold(memory, tokens);
            for (index b = 0; b < k; ++b) {
                stream& from = b == 0 ? input(s) : between[(b - 1) % 2];
                stream& to = b == k - 1 ? input(s + 1) : between[b % 2];
                stack.forward(s * k + b, from, &to, passing);
            }
        }

        for (index s = full; s >= 0; --s) {
            const index begin = s * k;
            const index count = s == full ? blocks - begin : k;
            struct level {
                saved kept;
                stream output;  // what the next block reads
            };
            std::array<level, static_cast<std::size_t>(k)> levels;  // given back in order, by an exception too
            const auto at = [&](index b) -> level& { return levels[static_cast<std::size_t>(b)]; };
            const auto enters = [&](index b) -> stream& { return b == 0 ? input(s) : at(b - 1).output; };
            for (index b = 0; b < count; ++b) {
                at(b).kept.hold(memory, tokens);
                const bool needed = b + 1 < count || s == full;
                if (needed) at(b).output.hold(memory, tokens);
                stack.forward(begin + b, enters(b), needed ? &at(b).output : nullptr, at(b).kept);
            }
            if (s == full) {
                turn(at(count - 1).output);
                at(count - 1).output.drop();
            }
            for (index b = count - 1; b >= 0; --b) {
                stack.backward(begin + b, enters(b), at(b).kept);
                at(b).kept.drop();
                if (b > 0) at(b - 1).output.drop();
            }
            input(s).drop();
        }
    }
};

template <index K>
struct recompute_policy : segment_policy<K> {
    static_assert(K >= 1, "recompute_every<k>: a segment has at least 1 block; to keep everything choose store_all");
};

}  // namespace detail

/// Everything that the backward pass reads is kept.
inline constexpr detail::segment_policy<0> store_all{};

/// The stream is kept at every K-th block, the rest recomputed.
template <index K>
inline constexpr detail::recompute_policy<K> recompute_every{};

}  // namespace longspan
