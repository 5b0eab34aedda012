// SPDX-License-Identifier: Apache-2.0
//
// The bodies of train/trainer.hpp that run one micro-batch. The order in which regions are acquired here is the order in which
// model/plan.hpp adds them up; a test holds the one against the other.
#pragma once

#include <vector>

#include <longspan/train/trainer.hpp>

namespace longspan {

namespace detail {

/// Arrays end to end in a region, each at a multiple of an alignment; without a region they are nowhere.
struct array_room {
    std::byte* base = nullptr;
    bytes used = 0;

    template <class T>
    [[nodiscard]] T* next(std::size_t count, bytes alignment) {
        std::byte* const at = base != nullptr ? base + used : nullptr;
        used += round_up(static_cast<bytes>(count * sizeof(T)), alignment);
        return reinterpret_cast<T*>(at);
    }
};

}  // namespace detail

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
trainer<Run, Backend>::trainer(seed from, adamw optimizer, clip_by_global_norm clip)
    : runtime_(std::make_unique<typename Backend::runtime>(memory_needed, list::template most<batch_bytes>)),
      memory_(runtime_->memory(), Backend::alignment),
      state_region_(memory_, "state of the step", sizeof(step_state)),
      request_region_(memory_, "request of the step", sizeof(step_request)),
      store_(memory_), optimizer_(optimizer), clip_(clip) {
    optimizer_.check();
    clip_.check();
    state_.seed = from.value;
    initialise();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
trainer<Run, Backend>::~trainer() = default;

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
std::string trainer<Run, Backend>::choices() const {
    return runtime_->choices();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
std::string trainer<Run, Backend>::reuse(std::string_view choices) {
    return runtime_->reuse(choices);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::copy_out(std::span<const std::byte> from, std::byte* to) {
    runtime_->download(from, to);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::copy_in(std::span<const std::byte> from, std::byte* to) {
    runtime_->upload(from, to);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::initialise() {
    state_.scale = loss_scale::start(precision::needs_loss_scale);
    runtime_->send(step_state{}, state_region_.as<step_state>());
    ops_type ops(*runtime_);
    ops.zero(store_.masters());
    ops.zero(store_.gradients());
    ops.zero(store_.first_moments());
    ops.zero(store_.second_moments());
    std::vector<std::uint8_t> decays(static_cast<std::size_t>(layout_type::groups));
    layout_type::mark_decay(decays.data(), [&](const parameter& p) { return optimizer_.decay_of(group_of(p)) > 0; });
    runtime_->upload(std::span<const std::uint8_t>(decays), store_.decays().data());
    std::uint32_t ordinal = 0;
    layout_type::for_each_place([&](const parameter_place& place, const parameter& p) {
        const auto values = store_.masters().subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(p.size()));
        if (p.start == initial::ones) ops.fill(values, 1.0);
        if (p.start == initial::normal) ops.fill_normal(values, state_.seed, ordinal, p.deviation);
        ++ordinal;
    });
    refresh_weights();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::refresh_weights() {
    if constexpr (precision::has_master) ops_type(*runtime_).round(store_.masters(), store_.weights());
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::check_batch(const token_batch& batch, bool training) {
    static_assert(list::template has<Phase>, "step<Phase>: Phase is not one of the configurations that this trainer was made for");
    expects(batch.budget() == Phase::batch.budget && static_cast<index>(batch.pieces.size()) == Phase::batch.max_pieces, [&] {
        return "the phase takes batches of " + std::to_string(Phase::batch.budget) + " tokens and " +
               std::to_string(Phase::batch.max_pieces) + " pieces; this one has " + std::to_string(batch.budget()) + " and " +
               std::to_string(batch.pieces.size());
    });
    expects(batch.targets.size() == batch.tokens.size() && (batch.by_id.size() == batch.tokens.size() || !training) &&
                (batch.weights.empty() || batch.weights.size() == batch.tokens.size()), [&] {
        return "a batch of " + std::to_string(batch.budget()) + " tokens has as many targets, places by id and (when it has some) weights; got " +
               std::to_string(batch.targets.size()) + ", " + std::to_string(batch.by_id.size()) + " and " + std::to_string(batch.weights.size());
    });
    const piece_table table = batch.table();
    for (index i = 0; i < table.count(); ++i) {
        expects(table.length(i) >= 0 && (i > 0 || table.begin(0) == 0), [&] {
            return "a batch's pieces lie end to end from token 0: piece " + std::to_string(i) + " begins at " + std::to_string(table.begin(i)) +
                   " and ends at " + std::to_string(table.end(i));
        });
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::check_losses(std::span<double> token_losses) {
    expects(token_losses.empty() || static_cast<index>(token_losses.size()) == Phase::batch.budget, [&] {
        return "token_losses: expected room for " + std::to_string(Phase::batch.budget) + " losses, or none; got " + std::to_string(token_losses.size());
    });
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
const stack_arguments<attention_of<Phase>>& trainer<Run, Backend>::arguments_for() const {
    if constexpr (std::is_same_v<attention_of<Phase>, attention_of<first_phase>>) {
        return arguments_;
    } else {
        static constexpr stack_arguments<attention_of<Phase>> none{};
        return none;
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, std::size_t... I>
void trainer<Run, Backend>::check_arguments(std::index_sequence<I...>, index documents) const {
    const auto& arguments = arguments_for<Phase>();
    const auto check = [](const char* wrong) { expects(wrong == nullptr, [&] { return std::string(wrong); }); };
    (check(complaint<pattern_at<attention_of<Phase>, static_cast<index>(I)>>(std::get<I>(arguments), documents)), ...);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
void trainer<Run, Backend>::with_batch(const token_batch& batch, std::span<double> token_losses, F&& f) {
    constexpr index tokens = Phase::batch.budget;
    held_region room(memory_, "batch", Backend::batch_memory(tokens, Phase::batch.max_pieces));
    runtime_->next_batch();
    // Five arrays and the losses, end to end; where batches are read in place there is no room, and nothing lies in it.
    detail::array_room arrays{room.size() > 0 ? room.data() : nullptr};
    const auto place = [&](const auto& from) {
        using element = typename std::remove_cvref_t<decltype(from)>::value_type;
        element* const to = arrays.next<element>(from.size(), Backend::alignment);
        return from.empty() ? nullptr : runtime_->stage(std::span<const element>(from), to);
    };
    placed_batch placed;
    placed.tokens = place(batch.tokens);
    placed.targets = place(batch.targets);
    placed.by_id = place(batch.by_id);
    placed.weights = place(batch.weights);
    placed.pieces = {{place(batch.pieces), batch.pieces.size()}, tokens};
    double* const losses = arrays.next<double>(static_cast<std::size_t>(tokens), Backend::alignment);
    placed.token_losses = runtime_->stage_out(token_losses, losses);
    runtime_->batch_placed();
    f(placed);
    if (!token_losses.empty()) runtime_->collect(losses, token_losses);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
auto trainer<Run, Backend>::with_context(const placed_batch& batch, bool training, F&& f) {
    using angles = tensors<precision, typename memory_of<Phase>::angle_table>;
    using segment = typename Backend::segment;
    const index tokens = Phase::batch.budget;
    held_region workspace(memory_, "workspace of ops", Backend::template workspace<model>(tokens));
    angles angle(memory_, tokens);
    held_region segments(memory_, "attention segments", Backend::segment_memory(tokens, Phase::batch.max_pieces));

    context_of<Phase> context{.ops = ops_type(*runtime_, workspace.data(), &state_region_.as<step_state>()->bad),
                              .memory = &memory_,
                              .tokens = tokens,
                              .pieces = batch.pieces,
                              .segments = {segments.as<segment>(), batch.pieces.pieces.size()},
                              .cosines = angle.template get<"rotary cosines">(),
                              .sines = angle.template get<"rotary sines">(),
                              .keys = &state_region_.as<step_state>()->keys,
                              .training = training};
    context.ops.make_segments(context.pieces, segments.as<segment>());
    if constexpr (memory_of<Phase>::rotary) {
        context.ops.template rotary_table<model::shape.head()>(context.pieces, model::shape.rotary_base, angle.template get<"rotary cosines">(),
                                                               angle.template get<"rotary sines">());
    }
    return f(context);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::add_gradients(const placed_batch& batch) {
    using embedding = embedding_layer<model>;
    using head = head_layer<model>;
    with_context<Phase>(batch, true, [&](auto& context) {
        tensors<precision, typename memory_of<Phase>::gradient_table> stream(memory_, context.tokens);
        const auto dx = stream.template get<"gradient stream">();
        const auto* weights = store_.weights().data();
        auto* gradients = store_.gradients().data();
        const typename embedding::weights embedding_weights(weights);
        const typename embedding::gradients embedding_gradients(gradients);
        const typename head::weights head_weights(weights + layout_type::head_offset);
        const typename head::gradients head_gradients(gradients + layout_type::head_offset);
        const auto table = [&] {
            if constexpr (model::shape.tied) return embedding_weights.template get<"embedding.weight">();
            else return head_weights.template get<"weight">();
        }();
        const auto d_table = [&] {
            if constexpr (model::shape.tied) return embedding_gradients.template get<"embedding.weight">();
            else return head_gradients.template get<"weight">();
        }();
        step_state* const state = state_region_.as<step_state>();
        const typename head::goal goal{batch.targets, batch.weights, batch.token_losses, &state->gradient_scale, &state->losses};

        stack_of<Phase> stack(context, weights, gradients, arguments_for<Phase>(), dx);
        checkpoint_of<Phase>::run(
            stack, memory_, [&](auto& x) { embedding::forward(context, embedding_weights, batch.tokens, stack.view(x)); },
            [&](auto& x) { head::turn(context, head_weights, head_gradients, table, d_table, goal, stack.view(x), dx); });
        embedding::backward(context, embedding_gradients, batch.tokens, batch.by_id, dx);
    });
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
auto trainer<Run, Backend>::forward_placed(const placed_batch& batch, F&& f) {
    return with_context<Phase>(batch, false, [&](auto& context) {
        using stack_type = stack_of<Phase>;
        stack_type stack(context, store_.weights().data(), nullptr, arguments_for<Phase>(), {});
        typename stack_type::stream even(memory_, context.tokens), odd(memory_, context.tokens);
        embedding_layer<model>::forward(context, typename embedding_layer<model>::weights(store_.weights().data()), batch.tokens, stack.view(even));
        for (index b = 0; b < stack_type::blocks; ++b) {
            typename stack_type::saved passing(memory_, context.tokens);
            stack.forward(b, b % 2 == 0 ? even : odd, b % 2 == 0 ? &odd : &even, passing);
        }
        return f(context, stack.view(stack_type::blocks % 2 == 0 ? even : odd));
    });
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::add_losses(const placed_batch& batch) {
    using head = head_layer<model>;
    forward_placed<Phase>(batch, [&](auto& context, auto x) {
        const typename head::goal goal{batch.targets, batch.weights, batch.token_losses, nullptr, &state_region_.as<step_state>()->losses};
        const typename head::weights head_weights(store_.weights().data() + layout_type::head_offset);
        if constexpr (model::shape.tied) {
            const typename embedding_layer<model>::weights embedding_weights(store_.weights().data());
            head::evaluate(context, head_weights, embedding_weights.template get<"embedding.weight">(), goal, x);
        } else {
            head::evaluate(context, head_weights, head_weights.template get<"weight">(), goal, x);
        }
    });
}

}  // namespace longspan
