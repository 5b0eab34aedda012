// SPDX-License-Identifier: Apache-2.0
//
// The bodies of train/trainer.hpp. The order in which regions are acquired here is the order in which model/plan.hpp adds them
// up; a test holds the one against the other.
#pragma once

#include <longspan/train/trainer.hpp>

namespace longspan {

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::initialise() {
    state_.scale = loss_scale::start(precision::needs_loss_scale);
    Backend ops;
    ops.zero(store_.masters());
    ops.zero(store_.gradients());
    ops.zero(store_.first_moments());
    ops.zero(store_.second_moments());
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
    if constexpr (precision::has_master) Backend{}.round(store_.masters(), store_.weights());
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
double* trainer<Run, Backend>::losses_of(std::span<double> token_losses) {
    expects(token_losses.empty() || static_cast<index>(token_losses.size()) == Phase::batch.budget, [&] {
        return "token_losses: expected room for " + std::to_string(Phase::batch.budget) + " losses, or none; got " + std::to_string(token_losses.size());
    });
    return token_losses.empty() ? nullptr : token_losses.data();
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
auto trainer<Run, Backend>::with_context(const token_batch& batch, bool training, F&& f) {
    check_batch<Phase>(batch, training);
    using angles = tensors<precision, typename memory_of<Phase>::angle_table>;
    using segment = typename Backend::segment;
    const index tokens = Phase::batch.budget;
    angles angle(memory_, tokens);
    held_region segments(memory_, "attention segments", Phase::batch.max_pieces * static_cast<bytes>(sizeof(segment)));

    context_of<Phase> context{.ops = Backend{},
                              .memory = &memory_,
                              .tokens = tokens,
                              .pieces = batch.table(),
                              .segments = {segments.as<segment>(), batch.pieces.size()},
                              .cosines = angle.template get<"rotary cosines">(),
                              .sines = angle.template get<"rotary sines">(),
                              .seed = state_.seed,
                              .step = static_cast<std::uint64_t>(state_.steps),
                              .training = training};
    context.ops.make_segments(context.pieces, segments.as<segment>());
    if constexpr (memory_of<Phase>::rotary) {
        context.ops.rotary_table(context.pieces, model::shape.head(), model::shape.rotary_base,
                                 angle.template get<"rotary cosines">(), angle.template get<"rotary sines">());
    }
    return f(context);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
double trainer<Run, Backend>::accumulate_gradients(const token_batch& batch, std::span<double> token_losses) {
    using embedding = embedding_layer<model>;
    using head = head_layer<model>;
    return with_context<Phase>(batch, true, [&](auto& context) {
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
        const typename head::goal goal{batch.targets.data(), batch.weights.empty() ? nullptr : batch.weights.data(),
                                       losses_of<Phase>(token_losses), state_.scale.value};

        double loss = 0;
        stack_of<Phase> stack(context, weights, gradients, arguments_for<Phase>(), dx);
        checkpoint_of<Phase>::run(
            stack, memory_, [&](auto& x) { embedding::forward(context, embedding_weights, batch.tokens.data(), stack.view(x)); },
            [&](auto& x) { loss = head::turn(context, head_weights, head_gradients, table, d_table, goal, stack.view(x), dx); });
        embedding::backward(context, embedding_gradients, batch.tokens.data(), batch.by_id.data(), dx);
        return loss;
    });
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
auto trainer<Run, Backend>::forward(const token_batch& batch, F&& f) {
    return with_context<Phase>(batch, false, [&](auto& context) {
        using stack_type = stack_of<Phase>;
        stack_type stack(context, store_.weights().data(), nullptr, arguments_for<Phase>(), {});
        typename stack_type::stream even(memory_, context.tokens), odd(memory_, context.tokens);
        embedding_layer<model>::forward(context, typename embedding_layer<model>::weights(store_.weights().data()), batch.tokens.data(),
                                        stack.view(even));
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
double trainer<Run, Backend>::evaluate(const token_batch& batch, std::span<double> token_losses) {
    using head = head_layer<model>;
    return forward<Phase>(batch, [&](auto& context, auto x) {
        const typename head::goal goal{batch.targets.data(), batch.weights.empty() ? nullptr : batch.weights.data(),
                                       losses_of<Phase>(token_losses), 1.0};
        const typename head::weights head_weights(store_.weights().data() + layout_type::head_offset);
        if constexpr (model::shape.tied) {
            const typename embedding_layer<model>::weights embedding_weights(store_.weights().data());
            return head::evaluate(context, head_weights, embedding_weights.template get<"embedding.weight">(), goal, x);
        } else {
            return head::evaluate(context, head_weights, head_weights.template get<"weight">(), goal, x);
        }
    });
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
double trainer<Run, Backend>::scheduled_rate(std::span<const token_batch> micro_batches) const {
    if constexpr (requires { Phase::schedule; }) {
        index tokens = 0;
        for (const token_batch& batch : micro_batches) tokens += batch.counts.tokens;
        return Phase::schedule.learning_rate(state_.updates, state_.tokens, tokens);
    } else {
        // Wide enough apart for small models and short runs; a run that matters names its schedule.
        return warm_up{in_steps(100)}.then(constant{1e-3}).learning_rate(state_.updates, state_.tokens, 0);
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
step_report trainer<Run, Backend>::step(std::span<const token_batch> micro_batches, double learning_rate) {
    for (const token_batch& batch : micro_batches) check_batch<Phase>(batch, true);
    (void)prepare(optimizer_, decay_group::vector, 1, learning_rate, 1.0);  // refuses a rate that makes no sense before anything changes
    memory_.reset_high_water();
    Backend ops;
    ops.zero(store_.gradients());

    step_report report;
    report.learning_rate = learning_rate;
    double loss = 0, weight = 0;
    for (const token_batch& batch : micro_batches) {
        loss += accumulate_gradients<Phase>(batch);
        weight += batch.counts.target_weight;
        report.tokens += batch.counts.tokens;
        report.targets += batch.counts.targets;
    }
    report.high_water = memory_.high_water();
    report.step = ++state_.steps;
    state_.tokens += report.tokens;
    if (!(weight > 0)) {
        report.refused = "none of the batch's tokens has a target";
        return report;
    }
    report.loss = loss / weight;
    const gradient_scale scale = scale_gradients(ops.sum_of_squares(store_.gradients()), weight * state_.scale.value, clip_);
    report.gradient_norm = scale.norm;
    if (!std::isfinite(loss) || !scale.finite) {
        report.refused = (std::isfinite(loss) ? "" : "the loss is not finite: ") + first_not_finite();
        state_.scale.overflowed();
        return report;
    }
    update(learning_rate, scale.factor);
    state_.scale.good();
    return report;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
std::string trainer<Run, Backend>::first_not_finite() {
    // A weight comes before all that is computed from it. Gradients come to be from the head down, so of those the last in the
    // store was first in time.
    std::string weight, gradient;
    layout_type::for_each_place([&](const parameter_place& place, const parameter& p) {
        const auto first = [&](auto all) {
            return Backend{}.first_non_finite(all.subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(p.size())));
        };
        const auto sentence = [&](const char* what, index at) {
            return what + place.name() + " is not finite at element " + std::to_string(at);
        };
        if (const index at = first(store_.weights()); at >= 0 && weight.empty()) weight = sentence("the weight ", at);
        if (const index at = first(store_.gradients()); at >= 0) gradient = sentence("the gradient of ", at);
    });
    if (!weight.empty()) return weight;
    return gradient.empty() ? "the norm of the gradients is not finite, though each of them is" : gradient;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::update(double learning_rate, double factor) {
    ++state_.updates;
    Backend ops;
    // By place, not by name: a name would be an allocation.
    layout_type::for_each_place([&](const parameter_place& place, const parameter& p) {
        const auto part = [&](auto all) { return all.subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(p.size())); };
        const adamw_update scalars = prepare(optimizer_, group_of(p), state_.updates, learning_rate, factor);
        ops.template adamw<model>(part(store_.masters()), part(store_.weights()), part(store_.gradients()), part(store_.first_moments()),
                                  part(store_.second_moments()), scalars);
    });
}

}  // namespace longspan
