// SPDX-License-Identifier: Apache-2.0
//
// What a layer needs to know about the step it runs in, besides its own tensors: the backend's ops, the arena to take scratch
// from, the documents in the batch, and the keys of every random draw. One context serves one micro-batch.
#pragma once

#include <cstdint>
#include <span>

#include <longspan/core/piece.hpp>
#include <longspan/core/run_keys.hpp>
#include <longspan/core/types.hpp>
#include <longspan/core/view.hpp>
#include <longspan/layer/parameter.hpp>
#include <longspan/memory/arena.hpp>
#include <longspan/memory/tensors.hpp>

namespace longspan {

/// Which draw of randomness a layer makes; with (seed, step, layer) it is one stream of the counter generator. Each branch draws
/// its own dropout and, per document, whether it is skipped.
enum class draw_site : std::uint32_t { embedding, attention_map, attention_branch, mlp_branch };

/// One micro-batch under way on a backend. `Statistic` is the policy's format for per-row numbers (float or double).
template <class Backend, class Statistic, class Segment>
struct step_context {
    using backend = Backend;
    typename Backend::ops ops;
    arena* memory = nullptr;
    index tokens = 0;
    piece_table pieces;                                ///< in the backend's memory
    std::span<const Segment> segments;                 ///< the pieces as attention sees them
    matrix_view<const Statistic> cosines, sines;       ///< rotary table, [tokens, head / 2]; empty without rotation
    const run_keys* keys = nullptr;                    ///< of every random draw; in the backend's memory
    arena* pinned = nullptr;                           ///< where tensors go that leave the device; null where none do
    bool training = true;                              ///< false: no dropout, no stochastic depth
};

/// A model's shape and precision as a type: what layers are templates of. Configs which differ only in what a layer does not
/// see (batching, checkpointing, context) share it, and with it every instantiation.
template <auto Shape, precision_policy Precision>
struct model_of {
    static constexpr auto shape = Shape;
    using precision = Precision;
    template <role R>
    using storage = storage_of<Precision, R>;
    template <role R>
    using view = matrix_view<storage<R>>;
    template <role R>
    using const_view = matrix_view<const storage<R>>;
    template <class Table>
    using weights = parameters<Table, const storage<role::weight>>;
    template <class Table>
    using gradients = parameters<Table, storage<role::parameter_gradient>>;
};

}  // namespace longspan
