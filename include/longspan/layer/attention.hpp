// SPDX-License-Identifier: Apache-2.0
//
// The attention branch: y = x + Wₒ · attention(rotate(norm(x) · W_qkv)), for any pattern of the algebra, with grouped heads,
// rotary or ALiBi positions, QK-norm, soft-cap, a learned sink per head and dropout on the map, as the shape says.
//
// Saved per token: the projection (h + 2k)·d, the output h·d, the log-sum-exp h, the norm's statistics. Rotated queries and
// keys overwrite the projection; with QK-norm the raw projection is kept and the rotated pair is made again in the backward. Each
// saved tensor says what it takes to make it again, and `forward<From>` makes only what is worth less than From.
// References: Vaswani et al., arXiv:1706.03762; Ainslie et al. (grouped queries), arXiv:2305.13245; Dao (tiling by
// log-sum-exp), arXiv:2307.08691.
#pragma once

#include <array>

#include <longspan/core/normed_heads.hpp>
#include <longspan/layer/branch.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>
#include <longspan/pattern/pattern.hpp>

namespace longspan {

/// Everything of the layer that does not depend on the pattern: parameters, saved tensors, sizes.
template <class Model>
struct attention_tables {
    static constexpr auto shape = Model::shape;
    using precision = typename Model::precision;
    using branch = residual_branch<Model>;
    using norm = normalisation<Model>;

    static constexpr index width = shape.width;
    static constexpr index query_width = shape.query_width();
    static constexpr index key_width = shape.key_value_width();
    static constexpr index projected = query_width + 2 * key_width;  ///< columns of [queries | keys | values]
    static constexpr index turned = query_width + key_width;         ///< columns of [queries | keys]
    static constexpr index normed_heads = shape.heads + shape.grouped_heads();
    static constexpr bool rotary = shape.positions == position_kind::rotary;

    struct parameter_table {
        static constexpr std::array list{
            norm::weight,
            norm::bias,
            parameter{"qkv.weight", projected, width, initial::normal, fan_in_deviation(width), true, shard::column},
            parameter{"qkv.bias", 1, shape.bias ? projected : 0, initial::zeros, 0, false, shard::column},
            parameter{"query_norm.weight", 1, shape.qk_norm ? shape.head() : 0, initial::ones, 0, false, shard::none},
            parameter{"key_norm.weight", 1, shape.qk_norm ? shape.head() : 0, initial::ones, 0, false, shard::none},
            parameter{"sink", 1, shape.sink ? shape.heads : 0, initial::zeros, 0, false, shard::column},
            parameter{"out.weight", width, query_width, initial::normal, residual_deviation(query_width, shape.layers), true, shard::row},
            parameter{"out.bias", 1, shape.bias ? width : 0, initial::zeros, 0, false, shard::none},
        };
    };
    struct saved_table {
        static constexpr std::array list{
            norm::mean,
            norm::rstd,
            tensor{"qkv", role::saved, projected, cost::product},
            tensor{"query rstd", role::statistic, shape.qk_norm ? shape.heads : 0},
            tensor{"key rstd", role::statistic, shape.qk_norm ? shape.grouped_heads() : 0},
            tensor{"attended", role::saved, query_width, cost::attention},
            tensor{"log-sum-exp", role::statistic, shape.heads, cost::attention},
        };
    };
    using saved = tensors<precision, saved_table>;
    using weights = typename Model::template weights<parameter_table>;
    using gradients = typename Model::template gradients<parameter_table>;

    struct normed_table {
        static constexpr std::array list{tensor{"normed", role::activation, width, cost::product}};
    };
    struct turned_table {
        static constexpr std::array list{tensor{"rotated", role::saved, shape.qk_norm ? turned : 0, cost::attention}};
    };
    struct branch_table {
        static constexpr std::array list{tensor{"branch", role::activation, branch::apart ? width : 0, cost::product}};
    };
    struct projected_gradient_table {
        static constexpr std::array list{tensor{"d qkv", role::gradient, projected}};
    };
    struct attended_gradient_table {
        static constexpr std::array list{tensor{"d branch", role::gradient, branch::thinned ? width : 0},
                                         tensor{"d attended", role::gradient, query_width}};
    };
    struct normed_gradient_table {
        static constexpr std::array list{tensor{"d normed", role::gradient, width}};
    };
};

template <class Model, class Pattern>
struct attention_layer : attention_tables<Model> {
    using tables = attention_tables<Model>;
    using typename tables::branch, typename tables::norm, typename tables::precision;
    using typename tables::gradients, typename tables::saved, typename tables::weights;
    using tables::shape, tables::query_width, tables::key_width, tables::turned;
    using residual_in = typename Model::template const_view<role::residual>;
    using residual_out = typename Model::template view<role::residual>;
    using gradient_in = typename Model::template const_view<role::gradient>;
    using gradient_view = typename Model::template view<role::gradient>;

    template <class Backend>
    [[nodiscard]] static constexpr layout forward_scratch(index tokens) {
        return either("attention forward", layout_of<precision, typename tables::normed_table>("", tokens),
                      layout_of<precision, typename tables::turned_table>("", tokens),
                      layout_of<precision, typename tables::branch_table>("", tokens));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout backward_scratch(index tokens) {
        return together("attention backward", layout_of<precision, typename tables::projected_gradient_table>("", tokens),
                        either("",
                               together("", layout_of<precision, typename tables::attended_gradient_table>("", tokens),
                                        layout_of<precision, typename tables::turned_table>("", tokens),
                                        region("attention workspace", Backend::template attention_workspace<Model>(tokens))),
                               layout_of<precision, typename tables::normed_table>("", tokens),
                               layout_of<precision, typename tables::normed_gradient_table>("", tokens)));
    }
    /// Floating-point operations of the dense products, forward, per token (attention's own depend on the documents).
    [[nodiscard]] static constexpr double products() {
        return 2.0 * static_cast<double>(shape.width * (tables::projected + query_width));
    }

    /// y = x + branch(x). Without y only what the backward needs is computed. Of the saved tensors those that are worth `From` or more
    /// are there already and are read, not made; the same ops on the same shapes make the others, so the bits are the same.
    template <cost From = cost::output, class Context>
    static void forward(Context& c, index layer, weights w, const values_of<Pattern>& arguments, residual_in x,
                        residual_out* y, const saved& kept) {
        forward_onto<From>(c, layer, w, arguments, x, x, y, kept);
    }
    /// y = onto ± branch(x), where x and y may be two streams.
    template <cost From = cost::output, joining Way = joining::add, class Context>
    static void forward_onto(Context& c, index layer, weights w, const values_of<Pattern>& arguments, residual_in x, residual_in onto,
                             residual_out* y, const saved& kept) {
        constexpr bool projects = cost::product < From, attends = cost::attention < From;
        const auto qkv = kept.template get<"qkv">();
        if constexpr (projects) {
            {
                tensors<precision, typename tables::normed_table> scratch(*c.memory, c.tokens);
                const auto normed = scratch.template get<"normed">();
                norm::forward(c, w, x, normed, kept);
                c.ops.template linear<Model>(normed, w.template get<"qkv.weight">(), w.template get<"qkv.bias">().data, qkv);
            }
            if constexpr (tables::rotary && !shape.qk_norm) {
                c.ops.template rotary<shape.head()>(qkv.column_range(0, turned), c.cosines, c.sines, true);
            }
        }
        if constexpr (attends) {
            tensors<precision, typename tables::turned_table> scratch(*c.memory, c.tokens);
            const auto qk = turn(c, w, kept, scratch);
            c.ops.template attention_forward<Model, Pattern>(c, layer, arguments, qk.column_range(0, query_width),
                                                             qk.column_range(query_width, key_width),
                                                             qkv.column_range(turned, key_width), w.template get<"sink">().data,
                                                             kept.template get<"attended">(), kept.template get<"log-sum-exp">());
        }
        if (!y) return;
        tensors<precision, typename tables::branch_table> scratch(*c.memory, c.tokens);
        branch::template forward<Way>(c, layer, draw_site::attention_branch, onto, kept.template get<"attended">(),
                                      w.template get<"out.weight">(), w.template get<"out.bias">().data, scratch.template get<"branch">(), *y);
    }

    /// dx: the gradient with respect to y on entry, with respect to x on return.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, const values_of<Pattern>& arguments,
                         residual_in x, const saved& kept, gradient_view dx) {
        backward(c, layer, w, g, arguments, x, kept, dx, dx);
    }
    /// dx += the gradient through the branch, of which dy is the gradient; dy may be dx.
    template <class Context>
    static void backward(Context& c, index layer, weights w, gradients g, const values_of<Pattern>& arguments, residual_in x,
                         const saved& kept, gradient_in dy, gradient_view dx) {
        const auto qkv = kept.template get<"qkv">();
        tensors<precision, typename tables::projected_gradient_table> outer(*c.memory, c.tokens);
        const auto d_qkv = outer.template get<"d qkv">();
        const auto dq = d_qkv.column_range(0, query_width), dk = d_qkv.column_range(query_width, key_width),
                   dv = d_qkv.column_range(turned, key_width);
        {
            tensors<precision, typename tables::attended_gradient_table> scratch(*c.memory, c.tokens);
            tensors<precision, typename tables::turned_table> turned_scratch(*c.memory, c.tokens);
            const auto d_attended = scratch.template get<"d attended">();
            const auto d_branch = branch::backward(c, layer, draw_site::attention_branch, dy,
                                                   scratch.template get<"d branch">());
            c.ops.template linear_weight_gradient<Model>(d_branch, kept.template get<"attended">(), g.template get<"out.weight">());
            if constexpr (shape.bias) c.ops.template linear_bias_gradient<Model>(d_branch, g.template get<"out.bias">().data);
            c.ops.template linear_input_gradient<Model>(d_branch, w.template get<"out.weight">(), d_attended);
            const auto qk = turn(c, w, kept, turned_scratch);
            using backend = typename Context::backend;
            held_region workspace(*c.memory, "attention workspace", backend::template attention_workspace<Model>(c.tokens));
            c.ops.template attention_backward<Model, Pattern>(
                c, layer, arguments, qk.column_range(0, query_width), qk.column_range(query_width, key_width),
                qkv.column_range(turned, key_width), w.template get<"sink">().data, kept.template get<"attended">(),
                kept.template get<"log-sum-exp">(), d_attended, dq, dk, dv, g.template get<"sink">().data, workspace.data());
        }
        turn_back(c, w, g, kept, d_qkv);
        {
            tensors<precision, typename tables::normed_table> scratch(*c.memory, c.tokens);
            const auto normed = scratch.template get<"normed">();
            norm::forward(c, w, x, normed, kept);
            c.ops.template linear_weight_gradient<Model>(d_qkv, normed, g.template get<"qkv.weight">());
            if constexpr (shape.bias) c.ops.template linear_bias_gradient<Model>(d_qkv, g.template get<"qkv.bias">().data);
        }
        tensors<precision, typename tables::normed_gradient_table> scratch(*c.memory, c.tokens);
        const auto d_normed = scratch.template get<"d normed">();
        c.ops.template linear_input_gradient<Model>(d_qkv, w.template get<"qkv.weight">(), d_normed);
        norm::template backward<true>(c, w, g, x, d_normed, kept, dx);
    }

private:
    /// [queries | keys] as attention reads them. Without QK-norm they were rotated where they lie.
    template <class Context, class Scratch>
    static auto turn(Context& c, weights w, const saved& kept, const Scratch& scratch) {
        const auto raw = kept.template get<"qkv">().column_range(0, turned);
        if constexpr (shape.qk_norm) {
            const auto qk = scratch.template get<"rotated">();
            const auto heads = [&](index from, index columns, const auto* weight, auto rstd) {
                return normed_heads{raw.column_range(from, columns), weight, qk.column_range(from, columns), rstd};
            };
            const auto queries = heads(0, query_width, w.template get<"query_norm.weight">().data, kept.template get<"query rstd">());
            const auto keys = heads(query_width, key_width, w.template get<"key_norm.weight">().data, kept.template get<"key rstd">());
            if constexpr (tables::rotary) {
                c.ops.template head_norm_rotary<shape.head()>(queries, keys, shape.norm_epsilon, c.cosines, c.sines);
            } else {
                for (const auto& of : {queries, keys})
                    c.ops.template head_norm<shape.head()>(of.x, of.weight, shape.norm_epsilon, of.y, of.rstd.data);
            }
            return qk;
        } else {
            return raw;
        }
    }

    /// Takes the gradients of rotated queries and keys, side by side in d_qkv, back to those of the projection, in place.
    template <class Context>
    static void turn_back(Context& c, weights w, gradients g, const saved& kept, gradient_view d_qkv) {
        if constexpr (shape.qk_norm) {
            const auto heads = [&](index from, index columns, const auto* weight, auto rstd, auto* d_weight) {
                const auto d = d_qkv.column_range(from, columns);
                return normed_heads_gradient{d, kept.template get<"qkv">().column_range(from, columns), weight, rstd, d, d_weight};
            };
            const auto queries = heads(0, query_width, w.template get<"query_norm.weight">().data, kept.template get<"query rstd">(),
                                       g.template get<"query_norm.weight">().data);
            const auto keys = heads(query_width, key_width, w.template get<"key_norm.weight">().data, kept.template get<"key rstd">(),
                                    g.template get<"key_norm.weight">().data);
            if constexpr (tables::rotary) {
                c.ops.template head_norm_rotary_backward<shape.head()>(queries, keys, c.cosines, c.sines);
            } else {
                for (const auto& of : {queries, keys})
                    c.ops.template head_norm_backward<shape.head()>(of.dy, of.x, of.weight, of.rstd.data, of.dx, of.dweight);
            }
        } else if constexpr (tables::rotary) {
            c.ops.template rotary<shape.head()>(d_qkv.column_range(0, turned), c.cosines, c.sines, false);
        }
    }
};

}  // namespace longspan
