// SPDX-License-Identifier: Apache-2.0
//
// A ring of slots between those who fill and those who read: for each slot an mbarrier that says "full" and one that says "free".
// Both sides walk the slots in the same order, each with its own place; a place is two registers.
//
//     filler: wait_free(at); copy … arriving at full(at); at.advance();     reader: wait_full(at); …; free(at); at.advance();
#pragma once

#include <cstdint>

#include <longspan/cuda/ptx/mbarrier.cuh>

namespace longspan::cuda::pipeline {

/// Arrivals by which a warp says that all its lanes have come so far: one. With LONGSPAN_RACECHECK each lane arrives, since
/// compute-sanitizer's racecheck takes what one lane says for the others, behind __syncwarp, as said for itself alone.
#ifdef LONGSPAN_RACECHECK
inline constexpr int arrivals_of_warp = 32;
#else
inline constexpr int arrivals_of_warp = 1;
#endif

/// By every lane; they have come together before.
__device__ __forceinline__ void arrive_as_warp(std::uint32_t at, int lane) {
    if (arrivals_of_warp > 1 || lane == 0) ptx::mbarrier_arrive(at);
}

/// A slot, and the parity of its turn.
template <int Slots>
struct ring_place {
    int slot = 0;
    std::uint32_t parity = 0;

    __device__ __forceinline__ void advance() {
        if constexpr (Slots == 1) {
            parity ^= 1;
        } else if (++slot == Slots) {
            slot = 0;
            parity ^= 1;
        }
    }
};

/// Slots pairs of mbarriers from `base` on, 16 · Slots bytes.
template <int Slots>
struct ring {
    static constexpr int slots = Slots, size = 16 * Slots;
    using place = ring_place<Slots>;

    std::uint32_t base;

    /// By one thread. `fillers` and `readers`: arrivals that make a slot full, or free.
    __device__ __forceinline__ void init(int fillers, int readers) const {
        for (int i = 0; i < Slots; ++i) {
            ptx::mbarrier_init(base + 16 * i, fillers);
            ptx::mbarrier_init(base + 16 * i + 8, readers);
        }
    }
    __device__ __forceinline__ std::uint32_t full(const place& at) const { return base + static_cast<std::uint32_t>(16 * at.slot); }
    __device__ __forceinline__ void wait_full(const place& at) const { ptx::mbarrier_wait(full(at), at.parity); }
    /// The first turn finds every slot free.
    __device__ __forceinline__ void wait_free(const place& at) const { ptx::mbarrier_wait(full(at) + 8, at.parity ^ 1); }
    /// That what was entered in this very turn has been read.
    __device__ __forceinline__ void wait_freed(const place& at) const { ptx::mbarrier_wait(full(at) + 8, at.parity); }
    __device__ __forceinline__ void free(const place& at) const { ptx::mbarrier_arrive(full(at) + 8); }
    __device__ __forceinline__ void free_as_warp(const place& at, int lane) const { arrive_as_warp(full(at) + 8, lane); }
};

}  // namespace longspan::cuda::pipeline
