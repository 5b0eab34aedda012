// SPDX-License-Identifier: Apache-2.0
//
// How a branch joins the residual stream: y = x + branch · Wᵀ (+ b), with dropout on the branch and stochastic depth per
// document when the shape asks for them. Without them the product adds straight into the stream, rounded once. Where there are two
// streams, in fixed point, the branch comes to be by itself, and can be taken off again to the bit.
#pragma once

#include <longspan/layer/context.hpp>
#include <longspan/layer/parameter.hpp>
#include <longspan/core/kinds.hpp>

namespace longspan {

/// Whether a branch joins its stream, or is taken off one that it has joined.
enum class joining : bool { add, take };

template <class Model>
struct residual_branch {
    static constexpr auto shape = Model::shape;
    /// Whether the branch is thinned on its way into the stream.
    static constexpr bool thinned = shape.dropout > 0 || shape.stochastic_depth > 0;
    /// Whether the branch needs a tensor of its own before it joins.
    static constexpr bool apart = thinned || shape.streams() == 2;

    /// The chance that a document skips the branches of `layer`: 0 at the first, growing linearly to the shape's at the last.
    [[nodiscard]] static constexpr double skip_chance(index layer) {
        return shape.layers > 1 ? shape.stochastic_depth * static_cast<double>(layer) / static_cast<double>(shape.layers - 1)
                                : shape.stochastic_depth;
    }

    /// y = x ± thin(branch · Wᵀ + b), of tokens from `first` on. `scratch` is as large as y, and used only when the branch is apart.
    template <joining Way = joining::add, class Context, class Weight>
    static void forward(Context& c, index layer, draw_site site, index first,
                        typename Model::template const_view<role::residual> x,
                        typename Model::template const_view<role::activation> branch, Weight weight,
                        const typename Model::template storage<role::weight>* bias,
                        typename Model::template view<role::activation> scratch,
                        typename Model::template view<role::residual> y) {
        if constexpr (apart) {
            c.ops.template linear<Model>(branch, weight, bias, scratch);
            const piece_rows rows(c.pieces, first, x.rows);
            static_assert(Way == joining::add || shape.streams() == 2, "only a model of two streams can take a branch off a stream");
            if constexpr (Way == joining::add) c.ops.template add_branch<shape.width>(x, scratch, thinning(c, layer, site), rows, y);
            else c.ops.template take_branch<shape.width>(x, scratch, thinning(c, layer, site), rows, y);
        } else {
            c.ops.template linear_onto<Model>(branch, weight, bias, x, y);
        }
    }

    /// The gradient that reaches the branch's product: thin(dy), in `scratch` when thinned, else dy itself.
    template <class Context>
    static auto backward(Context& c, index layer, draw_site site, index first,
                         typename Model::template const_view<role::gradient> dy,
                         typename Model::template view<role::gradient> scratch)
        -> typename Model::template const_view<role::gradient> {
        if constexpr (thinned) {
            c.ops.template thin<shape.width>(dy, thinning(c, layer, site), piece_rows(c.pieces, first, dy.rows), scratch);
            return scratch;
        } else {
            return dy;
        }
    }

private:
    template <class Context>
    static auto thinning(const Context& c, index layer, draw_site site) {
        return c.ops.thinning(c.keys, layer, static_cast<std::uint32_t>(site),
                              c.training ? shape.dropout : 0.0, c.training ? skip_chance(layer) : 0.0);
    }
};

}  // namespace longspan
