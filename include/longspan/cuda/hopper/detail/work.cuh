// SPDX-License-Identifier: Apache-2.0
//
// Which thread block does what, and when. Blocks of work are listed longest first (cuda/detail/attention_schedule.cuh); thread
// blocks stay on their multiprocessor and take one item after another from a counter, so that none is left waiting for a long
// one that began late. Heads go in groups whose operands fit the second-level cache together. Which thread block takes an item
// changes no bit of any result.
#pragma once

#include <algorithm>

#include <longspan/cuda/detail/attention_tile.cuh>
#include <longspan/cuda/ptx/afresh.cuh>

namespace longspan::cuda::hopper::detail {

using longspan::cuda::detail::attention_block;

/// The items of a launch: every block of every head; `together` heads take turns, block by block.
struct work_order {
    const attention_block* blocks;  ///< a list led by its length
    int heads, together;
    unsigned* counter;  ///< 0 at the launch

    struct item {
        int place, head;  ///< in the list; no head: behind the last item
    };
    __device__ __forceinline__ item at(unsigned ticket) const {
        // Asked afresh for each item: dividing by it is rare, and what a division prepares would stay in registers.
        const unsigned total = ptx::afresh(static_cast<unsigned>(blocks[0].block)), section = total * static_cast<unsigned>(together);
        if (section == 0 || ticket / total >= static_cast<unsigned>(heads)) return {0, -1};
        const unsigned first = ticket / section * static_cast<unsigned>(together), left = static_cast<unsigned>(heads) - first;
        const unsigned width = left < static_cast<unsigned>(together) ? left : static_cast<unsigned>(together), here = ticket % section;
        return {static_cast<int>(here / width), static_cast<int>(first + here % width)};
    }
    /// The next item, by a whole warp of which one lane draws.
    __device__ __forceinline__ item take(bool leader) const {
        unsigned ticket = 0;
        if (leader) ticket = atomicAdd(counter, 1u);
        const unsigned drawn = __reduce_max_sync(~0u, ticket);
        return at(drawn);
    }
};

/// Heads whose operands, `head_bytes` each, stay in a second-level cache whose two halves hold 25 MB each: half of one.
[[nodiscard]] constexpr int heads_together(bytes head_bytes, index heads) {
    constexpr bytes room = bytes{24} << 20;
    return static_cast<int>(std::clamp(head_bytes > 0 ? room / head_bytes : heads, index{1}, heads > 0 ? heads : index{1}));
}

/// Positions within a segment are 32-bit numbers here, and so are places among the marks of heads and queries.
inline void expect_countable(const char* op, index query_tokens, index key_tokens, index heads) {
    expects(query_tokens < index{1} << 31 && key_tokens < index{1} << 31 && heads * query_tokens < index{1} << 32, [&] {
        return std::string(op) + ": expected fewer than 2^31 tokens, and fewer than 2^32 in all heads, got " + std::to_string(query_tokens) + " queries and " +
               std::to_string(key_tokens) + " keys, " + std::to_string(heads) + " heads";
    });
}

[[nodiscard]] inline int multiprocessors(const char* op) {
    int device = 0, count = 0;
    check(cudaGetDevice(&device), op);
    check(cudaDeviceGetAttribute(&count, cudaDevAttrMultiProcessorCount, device), op);
    return count;
}

}  // namespace longspan::cuda::hopper::detail
