// SPDX-License-Identifier: Apache-2.0
//
// offload<policy>: what `policy` keeps of a segment (the stream that enters it, and its blocks' kept tensors) leaves for pinned host
// memory while the next segments run, and returns ahead of its backward. On the device there are only the slots of a ring.
//
//     static constexpr auto checkpoint = ls::offload<ls::selective>;
//     static constexpr auto checkpoint = ls::offload<ls::recompute_every<1>, 3>;
//     static constexpr auto checkpoint = ls::store_all.for_blocks<4>().then(ls::offload<ls::selective>);
//
// Memory, of L blocks under a policy with segments of one block, with S a stream, K what is kept of a block and A what it saves, R
// slots: R·(S + K) + (A − K) on the device, beside the scratch of one block, and (L − R)·(S + K) pinned. The same bits as without.
//
// Two slots are enough where every segment's copies take less time than the next segment's forward. Where they take more, the device
// would wait, and a plan for it does not compile (model/hiding.hpp); `.even_if_slow()` lets it. More slots help only where
// segments differ. Reference: Rhu et al., "vDNN", arXiv:1602.08124; Ren et al., "ZeRO-Offload", arXiv:2101.06840.
#pragma once

#include <longspan/checkpoint/segments.hpp>

namespace longspan {

namespace detail {

template <index Slots, block_rule... Rules>
constexpr auto offloaded(segment_policy<Rules...>) -> segment_policy<leaving_rule(Rules, Slots, false)...>;

template <auto Policy, index Slots>
struct offload_of {
    static constexpr bool in_segments = requires { offloaded<2>(Policy); };
    static_assert(in_segments, "offload<policy>: of a policy that keeps or makes again: ls::selective, ls::recompute_every<k>, or a mixture of such");
    static_assert(Slots >= 2,
                  "offload<policy, slots>: at least 2 slots, one for the segment that runs and one for those that leave or return meanwhile");
    static constexpr auto make() {
        if constexpr (in_segments) return decltype(offloaded<(Slots < 2 ? 2 : Slots)>(Policy)){};
        else return Policy;
    }
    using type = decltype(make());
};

}  // namespace detail

/// Policy, with what it keeps in pinned memory. Of a mixture, every part, each through a ring of its own.
template <auto Policy, index Slots = 2>
inline constexpr typename detail::offload_of<Policy, Slots>::type offload{};

}  // namespace longspan
