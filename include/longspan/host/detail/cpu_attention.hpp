// SPDX-License-Identifier: Apache-2.0
//
// How a layer's call becomes the host's attention: the shape chooses the score's options at compile time.
#pragma once

#include <longspan/core/alibi.hpp>
#include <longspan/host/cpu.hpp>

namespace longspan::host {

namespace detail {

/// The attention that a model's shape asks for under a pattern.
template <class Model, class Pattern>
struct attention_of_model {
    static constexpr auto shape = Model::shape;
    static constexpr index most_heads = 256;  // slopes and sinks of a call stand on the stack
    static_assert(!(shape.sink || shape.positions == position_kind::alibi) || shape.heads <= most_heads,
                  "decoder_shape.heads: with sinks or ALiBi the host takes at most 256 heads");
    static constexpr std::uint32_t attention_map_site = 1;  // draw_site::attention_map
    using rounding = std::conditional_t<std::is_same_v<typename Model::precision::operand, tf32_format>, tf32_format, void>;
    template <bool Dropout>
    using op = attention<Pattern, shape.head(),
                         score<(shape.soft_cap > 0), shape.positions == position_kind::alibi, shape.sink, Dropout, rounding>>;

    /// Calls f(op, score arguments): with dropout only where it may drop, so that evaluation pays nothing for it.
    template <class Context, class Sink, class F>
    static void call(const Context& c, index layer, index first_head, index heads, const Sink* sink, F&& f) {
        double slopes[most_heads], sinks[most_heads];
        score_arguments values{.scale = 0, .soft_cap = shape.soft_cap, .slopes = slopes, .sinks = sinks, .dropout = {}, .site = {}, .first_head = first_head};
        if constexpr (shape.positions == position_kind::alibi) {
            for (index h = 0; h < heads; ++h) slopes[h] = alibi_slope(first_head + h, shape.heads);
        }
        if constexpr (shape.sink) {
            for (index h = 0; h < heads; ++h) sinks[h] = static_cast<double>(to_compute(sink[first_head + h]));
        }
        if constexpr (shape.attention_dropout > 0) {
            if (c.training) {
                values.dropout = dropout_rate(shape.attention_dropout);
                values.site = {c.keys->seed, c.keys->step, static_cast<std::uint32_t>(layer), attention_map_site};
                return f(op<true>{}, values);
            }
        }
        f(op<false>{}, values);
    }
};

}  // namespace detail

template <class Model>
constexpr bytes cpu::attention_workspace(index tokens) {
    using gradient = typename Model::template storage<role::gradient>;
    constexpr index width = Model::shape.group_heads() * Model::shape.head();
    return sizeof(gradient) == 2 ? tokens * width * static_cast<bytes>(sizeof(compute_t<gradient>)) : 0;
}

template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S>
void cpu::attention_forward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                            matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse) {
    detail::attention_of_model<Model, Pattern>::call(c, layer, first_head, lse.columns, sink, [&](auto op, const score_arguments& values) {
        op.forward(q, k, v, c.segments, arguments(), values, out, lse);
    });
}

template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S, class DO, class D, class DSink>
void cpu::attention_backward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                             matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse, matrix_view<DO> d_out,
                             matrix_view<D> dq, matrix_view<D> dk, matrix_view<D> dv, DSink* d_sink, std::byte* workspace) {
    using attention = detail::attention_of_model<Model, Pattern>;
    constexpr auto shape = Model::shape;
    double sums[attention::most_heads] = {};
    attention::call(c, layer, first_head, lse.columns, sink, [&](auto op, const score_arguments& values) {
        op.backward(q, k, v, c.segments, arguments(), values, d_out, out, lse, {}, dq, dk, dv, accumulate::no, shape.sink ? sums : nullptr, workspace);
    });
    if constexpr (shape.sink) {
        for (index h = 0; h < lse.columns; ++h) d_sink[first_head + h] += static_cast<DSink>(sums[h]);
    }
}

}  // namespace longspan::host
