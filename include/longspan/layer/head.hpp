// SPDX-License-Identifier: Apache-2.0
//
// Where the stream ends: the final norm, the projection to the vocabulary and the cross-entropy, in chunks of tokens, so that
// logits of all tokens never exist. Loss and gradients come in one pass; the turn from forward to backward.
//
// Scratch: 2 [tokens, width] for the normed stream and its gradient, and [loss_chunk, vocabulary] logits.
#pragma once

#include <array>
#include <cstdint>

#include <longspan/core/cross_entropy_sums.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>

namespace longspan {

template <class Model>
struct head_layer {
    static constexpr auto shape = Model::shape;
    using norm = normalisation<Model>;
    using precision = typename Model::precision;

    struct parameter_table {
        static constexpr std::array list{
            norm::weight,
            norm::bias,
            parameter{"weight", shape.tied ? 0 : shape.vocabulary, shape.width, initial::normal, embedding_deviation, true, shard::vocabulary},
        };
    };
    struct scratch_table {
        static constexpr std::array list{norm::mean, norm::rstd, tensor{"normed", role::activation, shape.width}};
    };
    struct gradient_table {
        static constexpr std::array list{tensor{"d normed", role::gradient, shape.width}};
    };
    using weights = typename Model::template weights<parameter_table>;
    using gradients = typename Model::template gradients<parameter_table>;

    template <class Backend>
    [[nodiscard]] static constexpr layout turn_scratch(index tokens) {
        return together("head and loss", layout_of<precision, scratch_table>("", tokens), layout_of<precision, gradient_table>("", tokens),
                        region("logits of a chunk", Backend::template loss_workspace<Model>(tokens)));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout evaluation_scratch(index tokens) {
        return together("head and loss", layout_of<precision, scratch_table>("", tokens),
                        region("logits of a chunk", Backend::template loss_workspace<Model>(tokens)));
    }

    /// What the loss is measured against, and where it goes; all in the backend's memory. Targets, weights and per-token losses
    /// are [tokens]; the last two may be null.
    struct goal {
        const std::int32_t* targets = nullptr;       ///< −1: ignored
        const float* target_weights = nullptr;
        double* token_losses = nullptr;               ///< written: each target's own loss
        const float* scale = nullptr;                 ///< of the gradients (loss scaling), not of the loss; null: 1
        cross_entropy_sums* sums = nullptr;           ///< what the targets' losses are added to
    };

    /// Adds the loss to goal.sums; dx = its gradient with respect to x, times goal.scale. `table` and its gradient:
    /// the projection [vocabulary, width], which with tied weights is the embedding.
    template <class Context>
    static void turn(Context& c, weights w, gradients g, typename Model::template const_view<role::weight> table,
                     typename Model::template view<role::parameter_gradient> d_table, const goal& to,
                     typename Model::template const_view<role::residual> x,
                     typename Model::template view<role::gradient> dx) {
        tensors<precision, scratch_table> scratch(*c.memory, c.tokens);
        tensors<precision, gradient_table> back(*c.memory, c.tokens);
        using backend = typename Context::backend;
        held_region workspace(*c.memory, "logits of a chunk", backend::template loss_workspace<Model>(c.tokens));
        const auto normed = scratch.template get<"normed">();
        const auto d_normed = back.template get<"d normed">();
        norm::forward(c, w, x, normed, scratch);
        c.ops.template loss<Model>(normed, table, to, d_normed, d_table, workspace.data());
        norm::template backward<false>(c, w, g, x, d_normed, scratch, dx);
    }

    /// Adds the loss to goal.sums, forward only.
    template <class Context>
    static void evaluate(Context& c, weights w, typename Model::template const_view<role::weight> table, const goal& to,
                         typename Model::template const_view<role::residual> x) {
        tensors<precision, scratch_table> scratch(*c.memory, c.tokens);
        using backend = typename Context::backend;
        held_region workspace(*c.memory, "logits of a chunk", backend::template loss_workspace<Model>(c.tokens));
        const auto normed = scratch.template get<"normed">();
        norm::forward(c, w, x, normed, scratch);
        c.ops.template loss_only<Model>(normed, table, to, workspace.data());
    }
};

}  // namespace longspan
