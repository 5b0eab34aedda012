// SPDX-License-Identifier: Apache-2.0
//
// One micro-batch through a decoder, forward and back, on memory of the caller's: what the trainer makes steps of, and what a trainer
// of your own calls when the loop, the memory, the optimizer and the stream are yours.
//
//     ls::decoder_pass<config, ls::cuda::device> pass(ops, memory, state);      // ops on your stream, memory: an arena over your block
//     pass.add_gradients(batch, weights, gradients);                            // adds to gradients and to state->losses
//
// Memory: `pass_layout<config, backend>(tokens, max_pieces)` (model/plan.hpp) holds the batch and everything that a pass takes and
// gives back, added up in the order in which they are taken here: a test holds the one against the other. Weights and gradients,
// parameter_layout::size elements each, are the caller's. A pass neither allocates nor waits.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <type_traits>

#include <longspan/batch/batch.hpp>
#include <longspan/model/plan.hpp>

namespace longspan {

/// A micro-batch where a backend's ops can read it.
struct placed_batch {
    const token_id* tokens = nullptr;      ///< [budget]
    const token_id* targets = nullptr;     ///< [budget]
    const float* weights = nullptr;        ///< [budget], or null
    const std::int32_t* by_id = nullptr;   ///< [budget]
    piece_table pieces;
    double* token_losses = nullptr;        ///< [budget], written; or null

    /// Puts the arrays of a batch end to end into `room` (Backend::batch_memory bytes), each by `stage(span, to)`, which copies one and
    /// returns where ops find it. Without room, as on the host, nothing has a place but its own. Leaves token_losses null.
    template <class Backend, class Stage>
    [[nodiscard]] static placed_batch in(std::byte* room, const token_batch& batch, Stage&& stage) {
        const auto place = [&](const auto& from) {
            using element = typename std::remove_cvref_t<decltype(from)>::value_type;
            auto* const to = reinterpret_cast<element*>(room);
            if (room != nullptr) room += round_up(static_cast<bytes>(from.size() * sizeof(element)), Backend::alignment);
            return from.empty() ? nullptr : stage(std::span<const element>(from), to);
        };
        placed_batch placed;
        placed.tokens = place(batch.tokens);
        placed.targets = place(batch.targets);
        placed.by_id = place(batch.by_id);
        placed.weights = place(batch.weights);
        placed.pieces = {{place(batch.pieces), batch.pieces.size()}, batch.budget()};
        return placed;
    }
    /// The last part of that room: for the losses of the targets, [budget].
    template <class Backend>
    [[nodiscard]] static double* losses_in(std::byte* room, index tokens, index max_pieces) {
        if (room == nullptr) return nullptr;
        const bytes losses = round_up(tokens * static_cast<bytes>(sizeof(double)), Backend::alignment);
        return reinterpret_cast<double*>(room + Backend::batch_memory(tokens, max_pieces) - losses);
    }
};

/// Puts the run-time values of a stack's patterns into `room` (decoder_memory::argument_memory bytes) as a batch's arrays are put into
/// theirs, so that work which is recorded and replayed reads them anew. Without room, as on the host, they are taken as they are now.
template <class Patterns, class Backend, class Stage>
[[nodiscard]] stack_values<Patterns> placed_arguments(std::byte* room, const stack_arguments<Patterns>& given, Stage&& stage) {
    const auto place = [&]<class A>(const A& from) -> pattern_values<A> {
        if (std::is_empty_v<A> || room == nullptr) return from;
        auto* const to = reinterpret_cast<A*>(room);
        room += round_up(static_cast<bytes>(sizeof(A)), Backend::alignment);
        return stage(std::span<const A>(&from, 1), to);
    };
    return std::apply([&](const auto&... from) { return stack_values<Patterns>{place(from)...}; }, given);
}

/// The most bytes of the arena that were held in each phase of a pass.
struct pass_marks {
    bytes forward = 0;   ///< up to the turn
    bytes turn = 0;      ///< head and loss
    bytes backward = 0;  ///< what is made again included
    bytes pinned = 0;    ///< of the arena to which tensors leave
};

/// Runs micro-batches of Config's budget. Holds no memory of its own; the arena and the state outlive it.
template <configuration Config, class Backend>
class decoder_pass {
    using patterns = attention_of<Config>;
    using memory_type = decoder_memory<model_of_config<Config>, patterns, Backend>;
    using layout_type = parameters_of_config<Config>;

public:
    using model = model_of_config<Config>;
    using ops_type = typename Backend::ops;
    using weight = typename model::template storage<role::weight>;
    using gradient = typename model::template storage<role::parameter_gradient>;
    using context_type = step_context<Backend, typename model::template storage<role::statistic>, typename Backend::segment>;
    static constexpr index tokens = Config::batch.budget;
    static constexpr index max_pieces = Config::batch.max_pieces;

    /// `state` lies in the backend's memory: its keys are those of every draw, its gradient_scale multiplies gradients, its losses
    /// are added to, and its `bad` keeps the first id outside the vocabulary.
    /// Arguments of patterns are given as they are now, or as pointers to where they stand in the backend's memory when ops run.
    /// `pinned` (pinned_layout bytes) is asked for only by policies under which tensors leave the device.
    decoder_pass(ops_type ops, arena& memory, step_state* state, const stack_values<patterns>& arguments = {}, arena* pinned = nullptr)
        : ops_(ops), memory_(&memory), state_(state), arguments_(arguments), pinned_(pinned) {}

    /// Adds the gradients of the batch's loss to `gradients`, and the loss to state->losses. Returns what it held.
    pass_marks add_gradients(const placed_batch& batch, const weight* weights, gradient* gradients) const {
        return make_gradients(batch, weights, whole_gradients<layout_type, gradient>(gradients));
    }

    /// The same with the gradients of one bucket at a time (model/gradient_room.hpp): `use(ops, bucket)` is called when a bucket's are
    /// complete and nothing of the pass reads its weights any more, so it may change them. `room`: parameter_layout::gradient_size elements.
    template <class Use>
    pass_marks use_gradients(const placed_batch& batch, const weight* weights, gradient* room, Use use) const {
        return make_gradients(batch, weights, passing_gradients<layout_type, gradient, Use>{room, use});
    }

    /// Forward only; adds to state->losses.
    void add_losses(const placed_batch& batch, const weight* weights) const;

    /// Forward only; returns f(context, x), x the stream that leaves the last block, [tokens, width], in the backend's memory.
    template <class F>
    auto forward(const placed_batch& batch, const weight* weights, F&& f) const;

private:
    using embedding = embedding_layer<model>;
    using head = head_layer<model>;
    using stack_type = decoder_stack<model, patterns, context_type, layout_type>;

    template <class Gradients>
    pass_marks make_gradients(const placed_batch& batch, const weight* weights, const Gradients& gradients) const;
    template <class F>
    auto with_context(const placed_batch& batch, bool training, F&& f) const;
    /// The projection to the vocabulary among weights or gradients: the embedding itself when they are tied.
    template <class Embedding, class Head>
    [[nodiscard]] static auto projection(const Embedding& from_embedding, const Head& from_head) {
        if constexpr (model::shape.tied) return from_embedding.template get<"embedding.weight">();
        else return from_head.template get<"weight">();
    }

    ops_type ops_;
    arena* memory_;
    step_state* state_;
    stack_values<patterns> arguments_;
    arena* pinned_;
};

template <configuration Config, class Backend>
template <class F>
auto decoder_pass<Config, Backend>::with_context(const placed_batch& batch, bool training, F&& f) const {
    using angles = tensors<typename model::precision, typename memory_type::angle_table>;
    using segment = typename Backend::segment;
    held_region workspace(*memory_, "workspace of ops", Backend::template workspace<model>(tokens));
    angles angle(*memory_, tokens);
    held_region segments(*memory_, "attention segments", Backend::segment_memory(tokens, max_pieces));
    context_type context{.ops = ops_.with(workspace.data(), &state_->bad),
                         .memory = memory_,
                         .tokens = tokens,
                         .pieces = batch.pieces,
                         .segments = {segments.as<segment>(), batch.pieces.pieces.size()},
                         .cosines = angle.template get<"rotary cosines">(),
                         .sines = angle.template get<"rotary sines">(),
                         .keys = &state_->keys,
                         .pinned = pinned_,
                         .training = training};
    context.ops.make_segments(context.pieces, segments.as<segment>());
    if constexpr (memory_type::rotary) {
        context.ops.template rotary_table<model::shape.head()>(context.pieces, model::shape.rotary_base, angle.template get<"rotary cosines">(),
                                                               angle.template get<"rotary sines">());
    }
    return f(context);
}

template <configuration Config, class Backend>
template <class Gradients>
pass_marks decoder_pass<Config, Backend>::make_gradients(const placed_batch& batch, const weight* weights, const Gradients& gradients) const {
    pass_marks marks;
    if constexpr (offloads<checkpoint_of<Config>>) {
        expects(pinned_ != nullptr, [] { return std::string("a pass whose policy offloads takes an arena over pinned host memory; got none"); });
        (void)pinned_->lap();
    }
    (void)memory_->lap();
    with_context(batch, true, [&](auto& context) {
        tensors<typename model::precision, typename memory_type::gradient_table> stream(*memory_, context.tokens);
        const auto dx = stream.template get<"gradient stream">();
        const typename embedding::weights embedding_weights(weights);
        const typename head::weights head_weights(weights + layout_type::head_offset);
        const auto table = projection(embedding_weights, head_weights);
        gradient* d_embedding = nullptr;  // from the turn on where the head is tied to it
        const typename head::goal goal{batch.targets, batch.weights, batch.token_losses, &state_->gradient_scale, &state_->losses};

        decoder_stack<model, patterns, context_type, layout_type, Gradients> stack(context, weights, gradients, arguments_, dx);
        checkpoint_of<Config>::run(
            stack, *memory_, [&](auto& x) { stack.start(x, [&](auto out) { embedding::forward(context, embedding_weights, batch.tokens, out); }); },
            [&](auto& x) {
                marks.forward = memory_->lap();
                const typename head::gradients d_head(gradients.begin(context.ops, layout_type::buckets - 1));
                if constexpr (model::shape.tied) d_embedding = gradients.begin(context.ops, 0);
                const auto d_table = projection(typename embedding::gradients(d_embedding), d_head);
                stack.turn(x, [&](auto out, auto d_out) { head::turn(context, head_weights, d_head, table, d_table, goal, out, d_out); });
                gradients.end(context.ops, layout_type::buckets - 1);
                marks.turn = memory_->lap();
            });
        if constexpr (!model::shape.tied) d_embedding = gradients.begin(context.ops, 0);
        embedding::backward(context, typename embedding::gradients(d_embedding), batch.tokens, batch.by_id, stack.start_gradient());
        gradients.end(context.ops, 0);
    });
    marks.backward = memory_->lap();
    if (pinned_ != nullptr) marks.pinned = pinned_->lap();
    return marks;
}

template <configuration Config, class Backend>
template <class F>
auto decoder_pass<Config, Backend>::forward(const placed_batch& batch, const weight* weights, F&& f) const {
    return with_context(batch, false, [&](auto& context) {
        stack_type stack(context, weights, nullptr, arguments_, {});
        const auto embed = [&](auto out) { embedding::forward(context, typename embedding::weights(weights), batch.tokens, out); };
        typename stack_type::stream even(*memory_, context.tokens);
        stack.start(even, embed);
        if constexpr (model::shape.streams() == 2) {
            for (index b = 0; b < stack_type::blocks; ++b) {  // in place, as `reversible` does
                stack.template add_half<block_half::attention>(b, even);
                stack.template add_half<block_half::mlp>(b, even);
            }
            return stack.join(even, [&](auto x) { return f(context, x); });
        } else {
            typename stack_type::stream odd(*memory_, context.tokens);
            for (index b = 0; b < stack_type::blocks; ++b) {
                typename stack_type::saved passing(*memory_, context.tokens);
                stack.forward(b, b % 2 == 0 ? even : odd, b % 2 == 0 ? &odd : &even, passing);
            }
            return f(context, stack.view(stack_type::blocks % 2 == 0 ? even : odd));
        }
    });
}

template <configuration Config, class Backend>
void decoder_pass<Config, Backend>::add_losses(const placed_batch& batch, const weight* weights) const {
    forward(batch, weights, [&](auto& context, auto x) {
        const typename head::goal goal{batch.targets, batch.weights, batch.token_losses, nullptr, &state_->losses};
        const typename head::weights head_weights(weights + layout_type::head_offset);
        head::evaluate(context, head_weights, projection(typename embedding::weights(weights), head_weights), goal, x);
    });
}

}  // namespace longspan
