// SPDX-License-Identifier: Apache-2.0
//
// The normalisation at the head of every branch: y = norm(x) · w (+ b), by the kind that the shape names. The output is not
// kept: the backward pass normalises again from the input, which the stream holds anyway (one read and one write of
// [tokens, width] against that many bytes kept per branch).
#pragma once

#include <array>

#include <longspan/layer/context.hpp>
#include <longspan/layer/parameter.hpp>
#include <longspan/core/kinds.hpp>

namespace longspan {

/// Normalisation over the model's width.
template <class Model>
struct normalisation {
    static constexpr auto shape = Model::shape;
    static constexpr bool centred = shape.norm == norm_kind::layer;

    static constexpr parameter weight{"norm.weight", 1, shape.width, initial::ones, 0, false, shard::none};
    static constexpr parameter bias{"norm.bias", 1, centred ? shape.width : 0, initial::zeros, 0, false, shard::none};
    static constexpr tensor mean{"mean", role::statistic, centred ? 1 : 0};
    static constexpr tensor rstd{"rstd", role::statistic, 1};

    /// y = norm(x); writes the statistics into `saved`. `weights` and `saved` hold the entries above.
    template <class Context, class Weights, class Saved>
    static void forward(Context& c, Weights weights, typename Model::template const_view<role::residual> x,
                        typename Model::template view<role::activation> y, const Saved& saved) {
        const auto* w = weights.template get<"norm.weight">().data;
        auto* rstd_t = saved.template get<"rstd">().data;
        if constexpr (centred) {
            c.ops.template layer_norm<shape.width>(x, w, weights.template get<"norm.bias">().data, shape.norm_epsilon, y,
                             saved.template get<"mean">().data, rstd_t);
        } else {
            c.ops.template rms_norm<shape.width>(x, w, shape.norm_epsilon, y, rstd_t);
        }
    }

    /// dx = (with Add: +=) the gradient through the norm of dy = d loss / d y; the parameters' gradients are added to.
    template <bool Add, class Context, class Weights, class Gradients, class Saved>
    static void backward(Context& c, Weights weights, Gradients gradients,
                         typename Model::template const_view<role::residual> x,
                         typename Model::template const_view<role::gradient> dy, const Saved& saved,
                         typename Model::template view<role::gradient> dx) {
        const auto* w = weights.template get<"norm.weight">().data;
        auto* dw = gradients.template get<"norm.weight">().data;
        const auto* rstd_t = saved.template get<"rstd">().data;
        if constexpr (centred) {
            c.ops.template layer_norm_backward<shape.width, Add>(dy, x, w, saved.template get<"mean">().data, rstd_t, dx, dw,
                                      gradients.template get<"norm.bias">().data);
        } else {
            c.ops.template rms_norm_backward<shape.width, Add>(dy, x, w, rstd_t, dx, dw);
        }
    }
};

}  // namespace longspan
