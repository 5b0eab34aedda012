// SPDX-License-Identifier: Apache-2.0
//
// Where the stream ends: the final norm, the projection to the vocabulary and the cross-entropy, in chunks of tokens, so that
// logits of all tokens never exist. Loss and gradients come in one pass; the turn from forward to backward.
//
// Scratch: 2 [token_chunk, width] for the normed stream and its gradient, and [loss_chunk, vocabulary] logits.
#pragma once

#include <array>
#include <cstdint>

#include <longspan/core/cross_entropy_sums.hpp>
#include <longspan/layer/normalisation.hpp>
#include <longspan/layer/start.hpp>
#include <longspan/layer/token_chunks.hpp>

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
        const index rows = shape.chunk(tokens);
        return together("head and loss", layout_of<precision, scratch_table>("", rows), layout_of<precision, gradient_table>("", rows),
                        region("logits of a chunk", Backend::template loss_workspace<Model>(rows)));
    }
    template <class Backend>
    [[nodiscard]] static constexpr layout evaluation_scratch(index tokens) {
        const index rows = shape.chunk(tokens);
        return together("head and loss", layout_of<precision, scratch_table>("", rows),
                        region("logits of a chunk", Backend::template loss_workspace<Model>(rows)));
    }

    /// What the loss is measured against, and where it goes; all in the backend's memory. Targets, weights and per-token losses
    /// are [tokens]; the last two may be null.
    struct goal {
        const std::int32_t* targets = nullptr;       ///< −1: ignored
        const float* target_weights = nullptr;
        double* token_losses = nullptr;               ///< written: each target's own loss
        const float* scale = nullptr;                 ///< of the gradients (loss scaling), not of the loss; null: 1
        cross_entropy_sums* sums = nullptr;           ///< what the targets' losses are added to
        index first = 0;                              ///< the batch's token that row 0 is

        /// Of tokens from `begin` on.
        [[nodiscard]] goal from(index begin) const {
            goal rest = *this;
            rest.targets += begin, rest.first += begin;
            if (target_weights != nullptr) rest.target_weights += begin;
            if (token_losses != nullptr) rest.token_losses += begin;
            return rest;
        }
    };

    /// Adds the loss to goal.sums; dx = its gradient with respect to x, times goal.scale. `table` and its gradient:
    /// the projection [vocabulary, width], which with tied weights is the embedding.
    template <class Context>
    static void turn(Context& c, weights w, gradients g, typename Model::template const_view<role::weight> table,
                     typename Model::template view<role::parameter_gradient> d_table, const goal& to,
                     typename Model::template const_view<role::residual> x,
                     typename Model::template view<role::gradient> dx) {
        const index most = shape.chunk(c.tokens);
        tensors<precision, scratch_table> scratch(*c.memory, most);
        tensors<precision, gradient_table> back(*c.memory, most);
        using backend = typename Context::backend;
        held_region workspace(*c.memory, "logits of a chunk", backend::template loss_workspace<Model>(most));
        for_token_chunks(c.tokens, most, [&](index begin, index count) {
            const rows_of here{scratch, 0, count};
            const auto normed = here.template get<"normed">();
            const auto d_normed = back.template get<"d normed">().row_range(0, count);
            norm::forward(c, w, x.row_range(begin, count), normed, here);
            c.ops.template loss<Model>(normed, table, to.from(begin), d_normed, d_table, workspace.data());
            norm::template backward<false>(c, w, g, x.row_range(begin, count), d_normed, here, dx.row_range(begin, count));
        });
    }

    /// Adds the loss to goal.sums, forward only.
    template <class Context>
    static void evaluate(Context& c, weights w, typename Model::template const_view<role::weight> table, const goal& to,
                         typename Model::template const_view<role::residual> x) {
        const index most = shape.chunk(c.tokens);
        tensors<precision, scratch_table> scratch(*c.memory, most);
        using backend = typename Context::backend;
        held_region workspace(*c.memory, "logits of a chunk", backend::template loss_workspace<Model>(most));
        for_token_chunks(c.tokens, most, [&](index begin, index count) {
            const rows_of here{scratch, 0, count};
            const auto normed = here.template get<"normed">();
            norm::forward(c, w, x.row_range(begin, count), normed, here);
            c.ops.template loss_only<Model>(normed, table, to.from(begin), workspace.data());
        });
    }
};

}  // namespace longspan
