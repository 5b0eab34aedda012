// SPDX-License-Identifier: Apache-2.0
//
// How a segment is walked under a comb (pattern/comb.hpp): rows whose positions leave one remainder modulo Step form a segment of their
// own, dense under the comb's band. Row i·Step + r of a side is the i-th of its class r. A block of work is a block of one class.
//
// The schedule lists ⌈rows / Block⌉ blocks of a side; classes make up to Step − 1 more, since each may end in a part of a block. Block v of
// all is the (v / classes)-th of class v mod classes, so that v grows with position, and a listed block stands for a run of v. Listed blocks
// are taken in falling order, each run walked downwards (or all of it rising). Block v waits for the next of its class, v + classes, alone,
// which lies in a listed block that was taken before, or before it in its own run. A thread block comes to the end of what it has taken
// first before it begins what it takes next: so of all that is taken and not done, the first (by listed block, then by place in its run)
// waits for nobody, and all come to an end. Were v dealt out by turns (v, v + listed, …), a second turn would wait for first ones that nobody
// has taken. Memory: none.
#pragma once

#include <longspan/core/attention_segment.hpp>
#include <longspan/core/types.hpp>

namespace longspan::cuda::hopper::detail {

/// Rows [0, count) of a side by class.
template <int Step>
struct row_classes {
    index count;

    LONGSPAN_HD [[nodiscard]] constexpr index rows(index of) const { return of < count ? (count - 1 - of) / Step + 1 : 0; }
    /// Where a class begins if all of them lie one behind the other.
    LONGSPAN_HD [[nodiscard]] constexpr index begin(index of) const {
        const index longer = count % Step;
        return of * (count / Step) + (of < longer ? of : longer);
    }
};

/// Blocks of one class each, of a side of `count` rows, at least 1. 32 bits: divisions are by numbers known at run time.
template <int Step, int Block>
struct class_blocks {
    unsigned classes, listed, all;

    LONGSPAN_HD constexpr explicit class_blocks(index count) {
        const unsigned rows = static_cast<unsigned>(count), longer = rows % Step, least = rows / Step;
        classes = rows < Step ? rows : unsigned{Step};
        listed = (rows + (Block - 1)) / Block;
        all = longer * ((least + Block) / Block) + (Step - longer) * ((least + (Block - 1)) / Block);
    }
    /// Listed block b stands for blocks [begin(b), begin(b + 1)). The last ones stand for one more: forwards, and where sums fall, those are
    /// taken first, so that no launch ends with them.
    LONGSPAN_HD [[nodiscard]] constexpr unsigned begin(unsigned b) const {
        const unsigned plain = listed - all % listed;
        return b * (all / listed) + (b > plain ? b - plain : 0);
    }
    LONGSPAN_HD [[nodiscard]] constexpr int class_of(unsigned v) const { return static_cast<int>(v % classes); }
    LONGSPAN_HD [[nodiscard]] constexpr int number_of(unsigned v) const { return static_cast<int>(v / classes); }
};

/// The segment of one class of queries (or keys) and of those on the other side whose positions leave the same remainder, which may be
/// none. Positions count within the remainder; `begin`s are rows, of which the next lies Step further.
template <int Step, bool OfQueries>
LONGSPAN_HD [[nodiscard]] constexpr attention_segment segment_of_class(const attention_segment& s, index own) {
    const index position = own + (OfQueries ? s.query_position : s.key_position);
    const index apart = position - (OfQueries ? s.key_position : s.query_position), other = apart - floor_div(apart, Step) * Step;
    const index query = OfQueries ? own : other, key = OfQueries ? other : own;
    return {s.query_begin + query,
            row_classes<Step>{s.query_count}.rows(query),
            floor_div(s.query_position + query, Step),
            s.key_begin + key,
            row_classes<Step>{s.key_count}.rows(key),
            floor_div(s.key_position + key, Step),
            s.ordinal,
            s.document};
}

}  // namespace longspan::cuda::hopper::detail
