// SPDX-License-Identifier: Apache-2.0
//
// Where the stream begins: a row of the table per token, plus positions when they are learned or sinusoidal, plus dropout.
// Saves nothing. The backward sums rows of equal id in the order of the batch's sorted permutation, without atomics.
#pragma once

#include <array>
#include <cstdint>

#include <longspan/layer/branch.hpp>
#include <longspan/layer/start.hpp>

namespace longspan {

template <class Model>
struct embedding_layer {
    static constexpr auto shape = Model::shape;
    static constexpr bool learned = shape.positions == position_kind::learned;

    struct parameter_table {
        static constexpr std::array list{
            parameter{"embedding.weight", shape.vocabulary, shape.width, initial::normal, embedding_deviation, false, shard::vocabulary},
            parameter{"position.weight", learned ? shape.context : 0, shape.width, initial::normal, embedding_deviation, false, shard::none},
        };
    };
    using weights = typename Model::template weights<parameter_table>;
    using gradients = typename Model::template gradients<parameter_table>;

    /// x[t] = table[tokens[t]] (+ position), thinned by dropout; in the residual's format, or the activation's where two streams begin.
    template <class Context, class X = typename Model::template storage<role::residual>>
    static void forward(Context& c, weights w, const std::int32_t* tokens, matrix_view<X> x) {
        c.ops.template embed<shape.width>(tokens, w.template get<"embedding.weight">(), x);
        if constexpr (learned) c.ops.template add_learned_positions<shape.width>(c.pieces, w.template get<"position.weight">(), x);
        if constexpr (shape.positions == position_kind::sinusoidal) c.ops.template add_sinusoidal_positions<shape.width>(c.pieces, x);
        if constexpr (shape.dropout > 0) c.ops.template thin<shape.width>(x, thinning(c), c.pieces, x);
    }

    /// Adds to the tables' gradients; overwrites dx when there is dropout. `sorted`: token indices in order of (id, index).
    template <class Context>
    static void backward(Context& c, gradients g, const std::int32_t* tokens, const std::int32_t* sorted,
                         typename Model::template view<role::gradient> dx) {
        if constexpr (shape.dropout > 0) c.ops.template thin<shape.width>(dx, thinning(c), c.pieces, dx);
        if constexpr (learned) c.ops.template learned_positions_backward<shape.width>(c.pieces, dx, g.template get<"position.weight">());
        c.ops.template embed_backward<shape.width>(dx, tokens, sorted, g.template get<"embedding.weight">());
    }

private:
    template <class Context>
    static auto thinning(const Context& c) {
        return c.ops.thinning(c.keys, shape.layers, static_cast<std::uint32_t>(draw_site::embedding), c.training ? shape.dropout : 0.0, 0.0);
    }
};

}  // namespace longspan
