// SPDX-License-Identifier: Apache-2.0
//
// An order for sums that blocks of keys make together. dQ of a block of queries is a sum over the blocks of keys that it sees;
// where one kernel makes all gradients, each block of keys adds its part to floats in memory, from the last block to the first:
// the order in which blocks that walk their queries upwards reach them by themselves under a causal pattern. A block finds out
// from the pattern who comes before it, waits for that block's mark, adds, and leaves its own. Nobody waits for a block that
// starts later, since work is handed out in that order by a counter: so nothing can wait for ever.
//
// Both sides must agree on which tiles are live: `agreed<P>` patterns, whose intervals hold no tile without a live pair.
#pragma once

#include <longspan/cuda/detail/attention_tile.cuh>
#include <longspan/cuda/ptx/ordered.cuh>
#include <longspan/cuda/ptx/red.cuh>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/comb.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

namespace longspan::cuda::detail {

enum class agreement { none, band, strip, mixed };

/// A band, a strip of keys, a union or an intersection of such that holds no tile in vain, or something else.
template <class P>
inline constexpr agreement agreement_of = std::is_base_of_v<longspan::detail::band_pattern<P, typename P::arguments>, P>   ? agreement::band
                                          : std::is_base_of_v<longspan::detail::key_strip<P, typename P::arguments>, P> ? agreement::strip
                                                                                                                        : agreement::none;
template <class A, class B>
inline constexpr bool meets_exactly = agreement_of<A> == agreement::band && agreement_of<B> == agreement::band;
// Below a causal diagonal the first key of a tile decides for the tile, as it does for a strip.
template <class B>
inline constexpr bool meets_exactly<causal_pattern, B> = agreement_of<B> == agreement::band || agreement_of<B> == agreement::strip;
template <class A>
inline constexpr bool meets_exactly<A, causal_pattern> = agreement_of<A> == agreement::band || agreement_of<A> == agreement::strip;
template <>
inline constexpr bool meets_exactly<causal_pattern, causal_pattern> = true;
template <class A, class B>
inline constexpr bool meets_exactly<causal_pattern, either_of<A, B>> = meets_exactly<causal_pattern, A> && meets_exactly<causal_pattern, B>;
template <class A, class B>
inline constexpr bool meets_exactly<either_of<A, B>, causal_pattern> = meets_exactly<A, causal_pattern> && meets_exactly<B, causal_pattern>;

template <class A, class B>
inline constexpr agreement agreement_of<both<A, B>> = !meets_exactly<A, B> ? agreement::none
                                                      : agreement_of<A> == agreement::band && agreement_of<B> == agreement::band ? agreement::band
                                                                                                                                 : agreement::mixed;
template <class A, class B>
inline constexpr agreement agreement_of<either_of<A, B>> =
    agreement_of<A> != agreement::none && agreement_of<B> != agreement::none ? agreement::mixed : agreement::none;

template <class P>
inline constexpr bool agreed = agreement_of<P> != agreement::none;

/// Whether sums may rise from the first block of keys to the last, each block walking its queries from the last to the first, rather
/// than the other way round: where every query sees all the keys that lie before some place, the first blocks of keys have the
/// longest walks, and may then begin first, which keeps the end of a launch short. But blocks that begin together then all come to
/// the same queries, so it pays only where a walk takes the heads of a group by turns. In a band, neighbours tell who comes before.
template <class P>
inline constexpr bool rising = std::is_same_v<P, full_pattern> || std::is_same_v<P, causal_pattern>;
template <class A, class B>
inline constexpr bool rising<both<A, B>> = rising<A> && rising<B>;
template <class Band, index Step>
inline constexpr bool rising<remainder_band<Band, Step>> = rising<Band>;

/// Who adds to a block of queries before a block of keys does, and whether anyone does after it.
struct turn {
    int before;  ///< block of keys; -1: nobody
    int last;
};

/// What a block of keys knows of its neighbours: their runs of query blocks.
template <int Capacity>
struct neighbours {
    run_list<Capacity> above, below;  ///< of the next block of keys, and of the one before
    turn now;
    std::int32_t* left_at;  ///< where a mark is to be left once sums are in memory

    __device__ __forceinline__ static bool holds(const run_list<Capacity>& list, int tile) {
        for (int i = 0; i < list.count; ++i) {
            if (tile >= list.runs[i].first && tile < list.runs[i].last) return true;
        }
        return false;
    }
};

/// The turn of key block `mine` at the queries [positions of a block] from the pattern itself: where neighbours do not settle it.
template <class Pattern>
__device__ __forceinline__ turn find_turn(const typename Pattern::arguments& a, index ordinal, interval queries, interval keys, index tile, int mine) {
    turn found{-1, true};
    auto walk = key_runs<Pattern>(a, ordinal, queries, keys, tile);
    for (tile_run run; walk.next(run);) {
        if (run.first < mine) found.last = false;
        if (found.before < 0 && run.last > mine + 1) found.before = static_cast<int>(run.first > mine + 1 ? run.first : mine + 1);
    }
    return found;
}

/// Zero where no key is seen by any query of a block: there no block of keys comes by.
template <class Pattern, class D>
__global__ void __launch_bounds__(128)
    clear_unseen(matrix_view<D> dq, const attention_segment* segments, const attention_block* blocks,
                 const __grid_constant__ pattern_values<typename Pattern::arguments> arguments, int rows, int tile) {
    const attention_block block = blocks[1 + blockIdx.x];
    if (block.segment < 0) return;
    const attention_segment s = segments[block.segment];
    const index first = static_cast<index>(block.block) * rows, live = s.query_count - first < rows ? s.query_count - first : rows;
    auto walk = key_runs<Pattern>(arguments(), s.ordinal, {s.query_position + first, s.query_position + first + live},
                                  {s.key_position, s.key_position + s.key_count}, tile);
    tile_run run;
    if (walk.next(run)) return;
    for (index r = 0; r < live; ++r) {
        for (index i = threadIdx.x; i < dq.columns; i += 128) dq(s.query_begin + first + r, i) = from_compute<D>(0.0f);
    }
}

}  // namespace longspan::cuda::detail
