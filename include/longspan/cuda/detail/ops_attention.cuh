// SPDX-License-Identifier: Apache-2.0
//
// How a layer's call becomes the device's attention: the shape chooses the score's options at compile time, and the log-sum-exp,
// which nobody but the backward reads, is kept head by head.
#pragma once

#include <longspan/core/alibi.hpp>
#include <longspan/cuda/ops.cuh>

namespace longspan::cuda {

namespace detail {

/// A number per head, by value.
template <index Heads>
struct per_head {
    float value[static_cast<std::size_t>(Heads)];
};

/// A head's slope and sink as the kernels read them.
template <index Heads, class Sink>
__global__ void put_score_values(const __grid_constant__ per_head<Heads> from, float* slopes, const Sink* sinks_from, float* sinks) {
    const int h = static_cast<int>(threadIdx.x);
    if (h >= Heads) return;
    if (slopes != nullptr) slopes[h] = from.value[h];
    if (sinks != nullptr) sinks[h] = to_compute(sinks_from[h]);
}

/// The attention that a model's shape asks for under a pattern.
template <class Device, class Model, class Pattern>
struct attention_of_model {
    static constexpr auto shape = Model::shape;
    static constexpr bool alibi = shape.positions == position_kind::alibi;
    static_assert(!(shape.sink || alibi) || shape.heads <= 256, "decoder_shape.heads: with sinks or ALiBi the device takes at most 256 heads");
    static constexpr std::uint32_t attention_map_site = 1;  // draw_site::attention_map
    using rounding = std::conditional_t<std::is_same_v<typename Model::precision::operand, tf32_format>, tf32_format, void>;
    template <bool Dropout>
    using options = score<(shape.soft_cap > 0), alibi, shape.sink, Dropout, rounding>;
    template <bool Dropout>
    using op = std::conditional_t<Device::template on_hopper<Model>, hopper::attention<Pattern, shape.head(), options<Dropout>>,
                                  attention<Pattern, shape.head(), options<Dropout>>>;

    /// Calls f(op, score arguments) for query heads from `first_head` on; `room` takes 2 floats a head. With dropout only where it may drop.
    template <class Context, class Sink, class F>
    static void call(stream_ref stream, const Context& c, index layer, index first_head, const Sink* sink, std::byte* room, F&& f) {
        score_arguments values{.soft_cap = shape.soft_cap, .first_head = first_head};
        if constexpr (alibi || shape.sink) {
            float* const slopes = reinterpret_cast<float*>(room);
            float* const sinks = slopes + shape.heads;
            per_head<shape.heads> given{};
            if constexpr (alibi) {
                for (index h = 0; h < shape.heads; ++h) given.value[h] = static_cast<float>(alibi_slope(h, shape.heads));
                values.slopes = slopes + first_head;
            }
            if constexpr (shape.sink) values.sinks = sinks + first_head;
            put_score_values<<<1, 256, 0, stream>>>(given, alibi ? slopes : nullptr, sink, shape.sink ? sinks : nullptr);
            check_launch("attention's slopes and sinks");
        }
        if constexpr (shape.attention_dropout > 0) {
            if (c.training) {
                values.dropout = dropout_rate(shape.attention_dropout);
                values.site = {{.seed = 0, .step = 0, .layer = static_cast<std::uint32_t>(layer), .site = attention_map_site}, c.keys};
                return f(op<true>{}, values);
            }
        }
        f(op<false>{}, values);
    }
};

/// [tokens, heads] as it was asked for, kept head by head.
template <class S>
[[nodiscard]] statistic_view<S> by_head(matrix_view<S> lse) {
    return {lse.data, lse.rows, lse.columns, 1, lse.rows};
}

}  // namespace detail

template <class Device>
void ops_on<Device>::make_segments(const piece_table& pieces, segment* out) const {
    self_attention_segments(stream_, pieces.pieces.data(), pieces.count(), pieces.tokens, out);
}

template <class Device>
template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S>
void ops_on<Device>::attention_forward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                                    matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse) const {
    detail::attention_of_model<Device, Model, Pattern>::call(stream_, c, layer, first_head, sink, workspace_, [&](auto op, const score_arguments& values) {
        // Behind the slopes and sinks.
        op.forward(stream_, q, k, v, c.segments, arguments, values, out, detail::by_head(lse), workspace_ + round_up(Model::shape.heads * bytes{8}, workspace_alignment));
    });
}

template <class Device>
template <class Model, class Pattern, class Context, class Q, class V, class Sink, class O, class S, class DO, class D, class DSink>
void ops_on<Device>::attention_backward(const Context& c, index layer, index first_head, const values_of<Pattern>& arguments, matrix_view<Q> q, matrix_view<Q> k,
                                     matrix_view<V> v, const Sink* sink, matrix_view<O> out, matrix_view<S> lse, matrix_view<DO> d_out,
                                     matrix_view<D> dq, matrix_view<D> dk, matrix_view<D> dv, DSink* d_sink, std::byte* workspace) const {
    detail::attention_of_model<Device, Model, Pattern>::call(stream_, c, layer, first_head, sink, workspace_, [&](auto op, const score_arguments& values) {
        op.backward(stream_, q, k, v, c.segments, arguments, values, d_out, out, detail::by_head(lse), {}, dq, dk, dv, accumulate::no,
                    Model::shape.sink ? d_sink + first_head : nullptr, workspace);
    });
}

}  // namespace longspan::cuda
