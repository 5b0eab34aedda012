// SPDX-License-Identifier: Apache-2.0
//
// The checkpointing axis: what the backward pass finds stored, and how the rest comes back. A policy runs a stack of blocks
// forward and backward and sees them only through `forward`, `backward`, the stream between blocks and what each block saves, of
// which every tensor says what it takes to make it again (`cost`, memory/layout.hpp).
// So every policy works with every layer, pattern, precision and backend, and because what is recomputed comes from the same
// op on the same shape, every policy gives the same bits.
//
// A policy is a constexpr value of a type with
//     static constexpr layout plan(const stack_bytes&)      the regions of forward, turn and backward, as values
//     template <class Stack, class First, class Turn> static void run(Stack&, arena&, First, Turn)
// where first(x) fills the stream that enters block 0, and turn(x) takes the stream that leaves the last block and produces the
// gradient that `backward` carries down. A policy under which tensors leave the device has `offloads`, which is true, and
//     static constexpr layout pinned(const stack_bytes&)    the regions of pinned host memory, as values
// Reference: Chen et al., arXiv:1604.06174.
#pragma once

#include <concepts>

#include <longspan/core/kinds.hpp>
#include <longspan/core/types.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/memory/layout.hpp>
#include <longspan/memory/transfer.hpp>

namespace longspan {

/// What half a block of two streams takes while it runs in place, one way and the other.
struct half_bytes {
    layout forward, reverse;
};

/// What a policy has to place, for one micro-batch.
struct stack_bytes {
    index blocks = 0;
    bytes stream = 0;         ///< the residual stream, or both of them, between two blocks
    layout saved;             ///< what one block keeps for its backward, each tensor with its cost
    layout forward_scratch;   ///< needed while one block runs forward, each region with the cost of what is made in it
    layout backward_scratch;  ///< needed while one block runs backward
    layout turn;              ///< needed from the end of forward to the start of backward: the head and the loss
    half_bytes attention{}, mlp{};  ///< of a block, where there are two streams
    layout start{};           ///< needed to begin these
};

/// A stack of blocks which a policy can run. `stream` and `saved` own regions: empty at first, `hold(arena&, tokens)` takes them,
/// `drop()` gives them back. Of `saved`, `hold(arena&, tokens, cost)` takes the tensors that are worth so much or more, and
/// `hold_rest()`, `drop_rest()` the others.
template <class S>
concept block_stack = requires(S& stack, index block, typename S::stream& x, typename S::saved& saved, arena& memory) {
    x.hold(memory, block);
    x.drop();
    saved.hold(memory, block, cost::attention);
    saved.hold_rest();
    saved.drop_rest();
    saved.drop();
    { S::blocks } -> std::convertible_to<index>;
    { stack.tokens() } -> std::convertible_to<index>;
    stack.forward(block, x, &x, saved);  // the output may be null: then only what is saved is computed
    stack.template forward<cost::attention>(block, x, &x, saved);  // what is worth so much or more is there already
    stack.backward(block, x, saved);
};

/// A stack whose tensors can leave for pinned memory: regions of that arena are held as those of the other are. `leave` and `fetch` copy
/// what is kept between two of them, `here` on the device, and wait(number) orders what follows behind the copies of that number so
/// far (memory/transfer.hpp).
template <class S>
concept offloading_stack = block_stack<S> && requires(S& stack, index number, typename S::stream& x, typename S::saved& here,
                                                      typename S::saved& away) {
    { stack.pinned() } -> std::same_as<arena&>;
    stack.leave(number, x, x);
    stack.leave(number, here, away);
    stack.fetch(number, x, x);
    stack.fetch(number, here, away);
    stack.wait(number);
};

/// A stack of two residual streams, which half a block moves in place: `add_half` forward, `reverse_half` back to what they were, to the
/// bit, together with the half's backward. Each takes what it needs from the stack's arena and gives it back.
template <class S>
concept reversible_stack = block_stack<S> && requires(S& stack, index block, typename S::stream& x) {
    stack.template add_half<block_half::attention>(block, x);
    stack.template reverse_half<block_half::attention>(block, x);
};

/// A checkpointing policy.
template <class P>
concept checkpoint_policy = requires(const stack_bytes& stack) {
    { P::plan(stack) } -> std::same_as<layout>;
    { P::name } -> std::convertible_to<const char*>;
};

/// Whether tensors leave the device under a policy.
template <class P>
inline constexpr bool offloads = false;
template <class P>
    requires requires { P::offloads; }
inline constexpr bool offloads<P> = P::offloads;

}  // namespace longspan
