// SPDX-License-Identifier: Apache-2.0
//
// How a policy of segments (checkpoint/segments.hpp) treats a run of blocks, as values, and where that run lies in a stack.
#pragma once

#include <longspan/core/types.hpp>
#include <longspan/memory/layout.hpp>

namespace longspan {

/// How a run of blocks is treated.
struct block_rule {
    static constexpr index square_root = 0;
    index segment = 1;           ///< blocks from one kept stream to the next; square_root: the shortest with the least streams in all
    cost kept_from = cost::pass; ///< of what a block saves, what is worth so much is kept
    index blocks = 0;            ///< that it is for; 0: all that follow
    index slots = 0;             ///< 0: what is kept stays. Else it leaves for pinned memory, and so many segments' is on the device at a time
    bool may_wait = false;       ///< leaving and returning may take longer than the work that they lie beside
};

/// Where a rule lies in a stack.
struct rule_extent {
    index begin = 0;   ///< its first block
    index blocks = 0;
    index length = 0;  ///< of a segment; the last may be shorter
    index segments = 0;
    cost from = cost::pass;
    bool last = false; ///< nothing follows but the turn
    index slots = 0;
    index transfers = 0;  ///< numbers of transfers that the rules before it use

    [[nodiscard]] constexpr index length_of(index segment) const { return segment + 1 < segments ? length : blocks - segment * length; }

    /// How many segments leave, where there are slots: the last ones are still in theirs when their backward comes.
    [[nodiscard]] constexpr index leaving() const { return slots > 0 && segments > slots ? segments - slots : 0; }
    [[nodiscard]] constexpr index slots_used() const { return segments < slots ? segments : slots; }
    /// Whether a slot ever holds the stream that enters a segment. The one that enters the first block of a rule behind others is theirs.
    [[nodiscard]] constexpr bool holds_stream(index slot) const { return slot > 0 || begin == 0 || segments > slots; }
    [[nodiscard]] constexpr index streams_held() const { return slots_used() - (holds_stream(0) ? 0 : 1); }
    [[nodiscard]] constexpr index streams_leaving() const { return leaving() > 0 && begin > 0 ? leaving() - 1 : leaving(); }
};

}  // namespace longspan
