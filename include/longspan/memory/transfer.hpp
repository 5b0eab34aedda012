// SPDX-License-Identifier: Apache-2.0
//
// Tensors that leave a device for pinned host memory and return: what an offloading policy asks of a backend's ops, and what it takes
// in time. Copies run beside the work, in two lanes, one a direction, each in order:
//
//     ops.leave(number, pieces)   pieces(copy) calls copy(here, away, bytes) for each piece; from here to away, behind all work so far
//     ops.fetch(number, pieces)   the same from away to here
//     ops.wait(number)            work from now on comes behind the copies of that number so far
//
// A number is a place in a table of marks, below most_transfers; it may be used again once it was waited for. Until then the bytes that
// are read must stay as they are, and those that are written hold nothing. Where device and host are one memory, copies are done at once.
#pragma once

#include <cstddef>

#include <longspan/core/types.hpp>

namespace longspan {

/// Numbers of transfers: what may be under way at once.
inline constexpr index most_transfers = 64;
/// Of a slot through which a policy's segments leave and return: a stream that leaves, what is kept that leaves, and both that return.
inline constexpr index transfers_of_a_slot = 3;

/// Ops that can copy beside their work.
template <class Ops>
concept transferring = requires(const Ops& ops, index number) {
    ops.leave(number, [](auto&& copy) { copy(static_cast<std::byte*>(nullptr), static_cast<std::byte*>(nullptr), bytes{0}); });
    ops.fetch(number, [](auto&& copy) { copy(static_cast<std::byte*>(nullptr), static_cast<std::byte*>(nullptr), bytes{0}); });
    ops.wait(number);
};

}  // namespace longspan
