// SPDX-License-Identifier: Apache-2.0
//
// The MLP branch: y = x + W₂ · activation(W₁ · norm(x)), gated (SwiGLU) or plain (GELU), with or without biases.
//
// Saved per token: the pre-activation (2f gated, f plain) and the norm's statistics. The activation itself is recomputed in the
// pass which needs its derivative. Scratch: `forward_scratch`, `backward_scratch`.
// shape.token_chunk takes so many tokens at a time through all of it: of others nothing exists but what is saved.
// Reference: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
#pragma once

#include <array>

#include <longspan/layer/branch.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>
#include <longspan/layer/token_chunks.hpp>

namespace longspan {

template <class Model>
struct mlp_layer {
    static constexpr auto shape = Model::shape;
    static constexpr index width = shape.width;
    static constexpr index hidden = shape.hidden;
    static constexpr index first = shape.gated() ? 2 * hidden : hidden;  ///< columns of the first product: [gate | up], or up
    using precision = typename Model::precision;
    using branch = residual_branch<Model>;
    using norm = normalisation<Model>;
    using residual_in = typename Model::template const_view<role::residual>;
    using residual_out = typename Model::template view<role::residual>;
    using gradient_in = typename Model::template const_view<role::gradient>;
    using gradient_view = typename Model::template view<role::gradient>;

    struct parameter_table {
        static constexpr std::array list{
            norm::weight,
            norm::bias,
            parameter{"in.weight", first, width, initial::normal, fan_in_deviation(width), true, shard::column},
            parameter{"in.bias", 1, shape.bias ? first : 0, initial::zeros, 0, false, shard::column},
            parameter{"out.weight", width, hidden, initial::normal, residual_deviation(hidden, shape.layers), true, shard::row},
            parameter{"out.bias", 1, shape.bias ? width : 0, initial::zeros, 0, false, shard::none},
        };
    };
    struct saved_table {
        static constexpr std::array list{norm::mean, norm::rstd, tensor{"pre-activation", role::saved, first, cost::expansion}};
    };
    using saved = tensors<precision, saved_table>;
    using weights = typename Model::template weights<parameter_table>;
    using gradients = typename Model::template gradients<parameter_table>;

private:
    struct normed_table {
        static constexpr std::array list{tensor{"normed", role::activation, width, cost::expansion}};
    };
    struct activated_table {
        static constexpr std::array list{tensor{"activated", role::activation, hidden, cost::output}};
    };
    struct branch_table {
        static constexpr std::array list{tensor{"branch", role::activation, branch::apart ? width : 0, cost::output}};
    };
    struct branch_gradient_table {
        static constexpr std::array list{tensor{"d branch", role::gradient, branch::thinned ? width : 0}};
    };
    struct pre_gradient_table {
        static constexpr std::array list{tensor{"d pre-activation", role::gradient, first}};
    };
    struct activated_gradient_table {
        static constexpr std::array list{tensor{"d activated", role::gradient, hidden}, tensor{"activated", role::activation, hidden}};
    };
    struct normed_gradient_table {
        static constexpr std::array list{tensor{"d normed", role::gradient, width}};
    };
    template <class Table>
    using scratch_of = tensors<precision, Table>;
    template <class Table>
    [[nodiscard]] static constexpr layout bytes_of_table(index tokens) {
        return layout_of<precision, Table>("", tokens);
    }

    /// Calls f(begin, count) for the tokens of each chunk.
    template <class F>
    static void for_chunks(index tokens, F&& f) {
        for_token_chunks(tokens, shape.chunk(tokens), f);
    }
    [[nodiscard]] static constexpr layout contract_scratch(index rows) {
        return together("", bytes_of_table<branch_table>(rows), bytes_of_table<activated_table>(rows));
    }
    [[nodiscard]] static constexpr layout chunk_backward_scratch(index rows) {
        return together("mlp backward", bytes_of_table<branch_gradient_table>(rows), bytes_of_table<pre_gradient_table>(rows),
                        either("", bytes_of_table<activated_gradient_table>(rows), bytes_of_table<normed_table>(rows),
                               bytes_of_table<normed_gradient_table>(rows)));
    }

public:
    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return either("mlp forward", bytes_of_table<normed_table>(shape.chunk(tokens)), contract_scratch(shape.chunk(tokens)));
    }
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) { return chunk_backward_scratch(shape.chunk(tokens)); }
    /// Of `add` and of `reverse`, which save nothing that outlives them.
    [[nodiscard]] static constexpr layout add_scratch(index tokens) {
        const index rows = shape.chunk(tokens);
        return together("mlp forward", bytes_of_table<saved_table>(rows),
                        either("", bytes_of_table<normed_table>(rows), contract_scratch(rows)));
    }
    [[nodiscard]] static constexpr layout reverse_scratch(index tokens) {
        const index rows = shape.chunk(tokens);
        return together("mlp made again, backward", bytes_of_table<saved_table>(rows),
                        either("", bytes_of_table<normed_table>(rows), contract_scratch(rows), chunk_backward_scratch(rows)));
    }

    /// y = x + branch(x). Without y only what the backward needs is computed, and of that only what is worth less than `From`.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, weights w, residual_in x, residual_out* y, const saved& kept) {
        forward_onto<From>(c, layer, w, x, x, y, kept);
    }
    /// y = onto + branch(x), where x and y may be two streams.
    template <cost From = cost::output, class Context>
    static void forward_onto(Context& c, index layer, weights w, residual_in x, residual_in onto, residual_out* y, const saved& kept) {
        if constexpr (cost::expansion < From) {
            for_chunks(c.tokens, [&](index begin, index count) { expand(c, w, x.row_range(begin, count), rows_of{kept, begin, count}); });
        }
        if (!y) return;
        for_chunks(c.tokens, [&](index begin, index count) {
            contract<joining::add>(c, layer, w, rows_of{kept, begin, count}, begin, onto.row_range(begin, count), y->row_range(begin, count));
        });
    }

    /// dx: the gradient with respect to y on entry, with respect to x on return.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, residual_in x, const saved& kept, gradient_view dx) {
        backward(c, layer, w, g, x, kept, dx, dx);
    }
    /// dx += the gradient through the branch, of which dy is the gradient; dy may be dx.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, residual_in x, const saved& kept, gradient_in dy, gradient_view dx) {
        for_chunks(c.tokens, [&](index begin, index count) {
            chunk_backward(c, layer, w, g, begin, x.row_range(begin, count), rows_of{kept, begin, count}, dy.row_range(begin, count),
                           dx.row_range(begin, count));
        });
    }

    /// y += branch(x), of two streams.
    template <class Context>
    static void add(Context& c, index layer, weights w, residual_in x, residual_out y) {
        const saved passing(*c.memory, shape.chunk(c.tokens));
        for_chunks(c.tokens, [&](index begin, index count) {
            const rows_of kept{passing, 0, count};
            expand(c, w, x.row_range(begin, count), kept);
            contract<joining::add>(c, layer, w, kept, begin, y.row_range(begin, count), y.row_range(begin, count));
        });
    }
    /// y -= branch(x), to the bit, and dx += the gradient through the branch of which dy is the gradient: hidden activations are made once
    /// for both.
    template <class Context>
    static void reverse(Context& c, index layer, weights w, gradients g, residual_in x, residual_out y, gradient_in dy, gradient_view dx) {
        const saved passing(*c.memory, shape.chunk(c.tokens));
        for_chunks(c.tokens, [&](index begin, index count) {
            const rows_of kept{passing, 0, count};
            expand(c, w, x.row_range(begin, count), kept);
            contract<joining::take>(c, layer, w, kept, begin, y.row_range(begin, count), y.row_range(begin, count));
            chunk_backward(c, layer, w, g, begin, x.row_range(begin, count), kept, dy.row_range(begin, count), dx.row_range(begin, count));
        });
    }

private:
    /// What some tokens save.
    template <class Context, class Kept>
    static void expand(Context& c, weights w, residual_in x, const Kept& kept) {
        const scratch_of<normed_table> scratch(*c.memory, shape.chunk(c.tokens));
        const auto normed = scratch.template get<"normed">().row_range(0, x.rows);
        norm::forward(c, w, x, normed, kept);
        c.ops.template linear<Model>(normed, w.template get<"in.weight">(), w.template get<"in.bias">().data,
                                     kept.template get<"pre-activation">());
    }
    /// From there to the branch and, of tokens from `begin` on, into the stream, or off it.
    template <joining Way, class Context, class Kept>
    static void contract(Context& c, index layer, weights w, const Kept& kept, index begin, residual_in onto, residual_out y) {
        const scratch_of<branch_table> apart(*c.memory, shape.chunk(c.tokens));
        const scratch_of<activated_table> scratch(*c.memory, shape.chunk(c.tokens));
        const auto activated = scratch.template get<"activated">().row_range(0, y.rows);
        c.ops.template activate<shape.mlp, hidden>(kept.template get<"pre-activation">(), activated);
        branch::template forward<Way>(c, layer, draw_site::mlp_branch, begin, onto, activated, w.template get<"out.weight">(),
                                      w.template get<"out.bias">().data, apart.template get<"branch">().row_range(0, y.rows), y);
    }
    template <class Context, class Kept>
    static void chunk_backward(Context& c, index layer, weights w, gradients g, index begin, residual_in x, const Kept& kept, gradient_in dy,
                               gradient_view dx) {
        const index rows = shape.chunk(c.tokens);
        const scratch_of<branch_gradient_table> thinned(*c.memory, rows);
        const auto d_branch = branch::backward(c, layer, draw_site::mlp_branch, begin, dy, thinned.template get<"d branch">().row_range(0, x.rows));
        const scratch_of<pre_gradient_table> outer(*c.memory, rows);
        const auto d_pre = outer.template get<"d pre-activation">().row_range(0, x.rows);
        {
            const scratch_of<activated_gradient_table> scratch(*c.memory, rows);
            const auto d_activated = scratch.template get<"d activated">().row_range(0, x.rows);
            const auto activated = scratch.template get<"activated">().row_range(0, x.rows);
            c.ops.template linear_input_gradient<Model>(d_branch, w.template get<"out.weight">(), d_activated);
            c.ops.template activate_backward<shape.mlp, hidden>(d_activated, kept.template get<"pre-activation">(), d_pre, activated);
            c.ops.template linear_parameter_gradients<Model>(d_branch, activated, g.template get<"out.weight">(), g.template get<"out.bias">().data);
        }
        {
            const scratch_of<normed_table> scratch(*c.memory, rows);
            const auto normed = scratch.template get<"normed">().row_range(0, x.rows);
            norm::forward(c, w, x, normed, kept);
            c.ops.template linear_parameter_gradients<Model>(d_pre, normed, g.template get<"in.weight">(), g.template get<"in.bias">().data);
        }
        const scratch_of<normed_gradient_table> scratch(*c.memory, rows);
        const auto d_normed = scratch.template get<"d normed">().row_range(0, x.rows);
        c.ops.template linear_input_gradient<Model>(d_pre, w.template get<"in.weight">(), d_normed);
        norm::template backward<true>(c, w, g, x, d_normed, kept, dx);
    }
};

}  // namespace longspan
