// SPDX-License-Identifier: Apache-2.0
//
// reversible: keep nothing. A model of two residual streams (residual_kind::two_streams) makes the input of a block of its output:
//
//     forward   y₁ = x₁ + attention(x₂)    y₂ = x₂ + mlp(y₁)
//     back      x₂ = y₂ - mlp(y₁)          x₁ = y₁ - attention(x₂)
//
// in place, half a block at a time: what is taken off is made by the op that made it on the way forward, and makes again what the
// half's backward reads. The streams are in fixed point (precision/fixed_point.hpp), so the sums are undone to the bit, and loss and
// gradients are those of every other policy of the same model.
//
// Memory, whatever the depth: two streams, two gradient streams, what one half saves and its scratch. Everything is made twice.
// References: Gomez et al., "The Reversible Residual Network", arXiv:1707.04585; Kitaev et al., "Reformer", arXiv:2001.04451.
#pragma once

#include <longspan/checkpoint/policy.hpp>

namespace longspan {

struct reversible_policy {
    static constexpr const char* name = "reversible";
    static constexpr bool needs_two_streams = true;

    /// Of a stack of `blocks`, how many make their tensors of that cost twice: all.
    [[nodiscard]] static constexpr index made_again(cost what, index blocks) { return what > cost::pass ? blocks : 0; }
    friend constexpr bool operator==(reversible_policy, reversible_policy) = default;

    [[nodiscard]] static constexpr layout plan(const stack_bytes& stack) {
        return together("activations", region("streams", stack.stream),
                        either("", either("attention's half of a block", stack.attention.forward, stack.attention.reverse),
                               either("the MLP's half of a block", stack.mlp.forward, stack.mlp.reverse), stack.start, stack.turn));
    }

    template <reversible_stack Stack, class First, class Turn>
    static void run(Stack& stack, arena& memory, First&& first, Turn&& turn) {
        typename Stack::stream x;
        x.hold(memory, stack.tokens());
        first(x);
        for (index b = 0; b < Stack::blocks; ++b) {
            stack.template add_half<block_half::attention>(b, x);
            stack.template add_half<block_half::mlp>(b, x);
        }
        turn(x);
        for (index b = Stack::blocks - 1; b >= 0; --b) {
            stack.template reverse_half<block_half::mlp>(b, x);
            stack.template reverse_half<block_half::attention>(b, x);
        }
    }
};

/// Inputs are made again from outputs; for models of two streams.
inline constexpr reversible_policy reversible{};

}  // namespace longspan
