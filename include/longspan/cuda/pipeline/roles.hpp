// SPDX-License-Identifier: Apache-2.0
//
// How many registers the warpgroups of a specialised kernel may ask for. A thread block owns what it was launched with, the same
// number for each thread, and setmaxnreg only moves registers within that: a warpgroup that asks for more waits for ever.
#pragma once

namespace longspan::cuda::pipeline {

/// Registers of each thread at a launch that leaves room for one block of `threads` on a multiprocessor: of 65,536, in eights.
[[nodiscard]] constexpr int registers_at_entry(int threads) {
    const int each = 65536 / threads / 8 * 8;
    return each < 248 ? each : 248;
}

/// Whether a block of givers + `takers` warpgroups, of which those keep `giver` registers a thread, has `taker` for each other one.
[[nodiscard]] constexpr bool registers_suffice(int giver, int takers, int taker, int givers = 1) {
    return givers * giver + takers * taker <= (givers + takers) * registers_at_entry(128 * (givers + takers));
}

}  // namespace longspan::cuda::pipeline
