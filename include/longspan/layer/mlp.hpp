// SPDX-License-Identifier: Apache-2.0
//
// The MLP branch: y = x + W₂ · activation(W₁ · norm(x)), gated (SwiGLU) or plain (GELU), with or without biases.
//
// Saved per token: the pre-activation (2f gated, f plain) and the norm's statistics. The activation itself is recomputed in the
// pass which needs its derivative. Scratch: max(width, f) forward, at most (2·2 + …)f backward; see `backward_scratch`.
// Reference: Shazeer, "GLU Variants Improve Transformer", arXiv:2002.05202.
#pragma once

#include <array>

#include <longspan/layer/branch.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>

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
        static constexpr std::array list{tensor{"activated", role::activation, hidden, cost::output},
                                         tensor{"branch", role::activation, branch::apart ? width : 0, cost::output}};
    };
    struct pre_gradient_table {
        static constexpr std::array list{tensor{"d pre-activation", role::gradient, first}};
    };
    struct activated_gradient_table {
        static constexpr std::array list{tensor{"d branch", role::gradient, branch::thinned ? width : 0},
                                         tensor{"d activated", role::gradient, hidden},
                                         tensor{"activated", role::activation, hidden}};
    };
    struct normed_gradient_table {
        static constexpr std::array list{tensor{"d normed", role::gradient, width}};
    };

public:
    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return either("mlp forward", layout_of<precision, normed_table>("", tokens), layout_of<precision, activated_table>("", tokens));
    }
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) {
        return together("mlp backward", layout_of<precision, pre_gradient_table>("", tokens),
                        either("", layout_of<precision, activated_gradient_table>("", tokens),
                               layout_of<precision, normed_table>("", tokens), layout_of<precision, normed_gradient_table>("", tokens)));
    }
    /// Floating-point operations of the products, forward, per token.
    [[nodiscard]] static constexpr double products() { return 2.0 * static_cast<double>(width * (first + hidden)); }

    /// y = x + branch(x). Without y only what the backward needs is computed, and of that only what is worth less than `From`.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, weights w, residual_in x, residual_out* y, const saved& kept) {
        forward_onto<From>(c, layer, w, x, x, y, kept);
    }
    /// y = onto ± branch(x), where x and y may be two streams.
    template <cost From = cost::output, joining Way = joining::add, class Context>
    static void forward_onto(Context& c, index layer, weights w, residual_in x, residual_in onto, residual_out* y, const saved& kept) {
        if constexpr (cost::expansion < From) {
            tensors<precision, normed_table> scratch(*c.memory, c.tokens);
            const auto normed = scratch.template get<"normed">();
            norm::forward(c, w, x, normed, kept);
            c.ops.template linear<Model>(normed, w.template get<"in.weight">(), w.template get<"in.bias">().data,
                                         kept.template get<"pre-activation">());
        }
        if (!y) return;
        tensors<precision, activated_table> scratch(*c.memory, c.tokens);
        const auto activated = scratch.template get<"activated">();
        c.ops.template activate<shape.mlp, hidden>(kept.template get<"pre-activation">(), activated);
        branch::template forward<Way>(c, layer, draw_site::mlp_branch, onto, activated, w.template get<"out.weight">(),
                                      w.template get<"out.bias">().data, scratch.template get<"branch">(), *y);
    }

    /// dx: the gradient with respect to y on entry, with respect to x on return.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, residual_in x, const saved& kept, gradient_view dx) {
        backward(c, layer, w, g, x, kept, dx, dx);
    }
    /// dx += the gradient through the branch, of which dy is the gradient; dy may be dx.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, residual_in x, const saved& kept, gradient_in dy, gradient_view dx) {
        tensors<precision, pre_gradient_table> outer(*c.memory, c.tokens);
        const auto d_pre = outer.template get<"d pre-activation">();
        {
            tensors<precision, activated_gradient_table> scratch(*c.memory, c.tokens);
            const auto d_activated = scratch.template get<"d activated">();
            const auto activated = scratch.template get<"activated">();
            const auto d_branch =
                branch::backward(c, layer, draw_site::mlp_branch, dy, scratch.template get<"d branch">());
            c.ops.template linear_input_gradient<Model>(d_branch, w.template get<"out.weight">(), d_activated);
            c.ops.template activate_backward<shape.mlp, hidden>(d_activated, kept.template get<"pre-activation">(), d_pre, activated);
            c.ops.template linear_weight_gradient<Model>(d_branch, activated, g.template get<"out.weight">());
            if constexpr (shape.bias) c.ops.template linear_bias_gradient<Model>(d_branch, g.template get<"out.bias">().data);
        }
        {
            tensors<precision, normed_table> scratch(*c.memory, c.tokens);
            const auto normed = scratch.template get<"normed">();
            norm::forward(c, w, x, normed, kept);
            c.ops.template linear_weight_gradient<Model>(d_pre, normed, g.template get<"in.weight">());
            if constexpr (shape.bias) c.ops.template linear_bias_gradient<Model>(d_pre, g.template get<"in.bias">().data);
        }
        tensors<precision, normed_gradient_table> scratch(*c.memory, c.tokens);
        const auto d_normed = scratch.template get<"d normed">();
        c.ops.template linear_input_gradient<Model>(d_pre, w.template get<"in.weight">(), d_normed);
        norm::template backward<true>(c, w, g, x, d_normed, kept, dx);
    }
};

}  // namespace longspan
