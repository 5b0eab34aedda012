// SPDX-License-Identifier: Apache-2.0
//
// Where a backward pass finds room for the gradients of a bucket of parameters, and what becomes of them when they are complete. Buckets
// come in the order of the backward: the head, the blocks from the last to the first, the embedding (which a tied head adds to, so its
// room is asked for before the head is done).
//
//     G.begin(ops, bucket)   the room, [bucket_size]; what it holds is added to
//     G.end(ops, bucket)     its gradients are complete, and nothing in this pass reads its weights any more
#pragma once

#include <cstddef>
#include <span>

#include <longspan/core/types.hpp>

namespace longspan {

/// Sums of the whole store: they stay, and add up over passes.
template <class Layout, class Gradient>
struct whole_gradients {
    Gradient* store = nullptr;

    constexpr whole_gradients(Gradient* all) : store(all) {}
    template <class Ops>
    [[nodiscard]] Gradient* begin(const Ops&, index bucket) const {
        return store + Layout::bucket_offset(bucket);
    }
    template <class Ops>
    void end(const Ops&, index) const {}
};

/// One bucket at a time in `room` (parameter_layout::gradient_size elements): zeroed, filled, and given to use(ops, bucket).
template <class Layout, class Gradient, class Use>
struct passing_gradients {
    Gradient* room = nullptr;
    Use use;

    template <class Ops>
    [[nodiscard]] Gradient* begin(const Ops& ops, index bucket) const {
        Gradient* const at = room + Layout::gradient_offset(bucket);
        ops.zero(std::span<Gradient>(at, static_cast<std::size_t>(Layout::bucket_size(bucket))));
        return at;
    }
    template <class Ops>
    void end(const Ops& ops, index bucket) const {
        use(ops, bucket);
    }
};

}  // namespace longspan
