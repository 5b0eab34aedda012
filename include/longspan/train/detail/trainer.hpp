// SPDX-License-Identifier: Apache-2.0
//
// The bodies of train/trainer.hpp that make a trainer and look at what it is given: parameters, batches, arguments.
#pragma once

#include <vector>

#include <longspan/train/trainer.hpp>

namespace longspan {

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
trainer<Run, Backend>::trainer(seed from, adamw optimizer, clip_by_global_norm clip)
    : runtime_(make_runtime()),
      memory_(runtime_->memory(), Backend::alignment),
      pinned_(runtime_->pinned(), Backend::alignment),
      state_region_(memory_, "state of the step", sizeof(step_state)),
      request_region_(memory_, "request of the step", sizeof(step_request)),
      store_(memory_), optimizer_(optimizer), clip_(clip) {
    optimizer_.check();
    clip_.check();
    expects(update_type::knows_norm || clip_.limit == no_clip, [&] {
        return "config.update says by_bucket(), which knows no global norm to clip by: expected ls::clip_by_global_norm{ls::no_clip}, got a limit of " +
               detail::number(clip_.limit) + "; or take .by_bucket().with_norm()";
    });
    state_.seed = from.value;
    initialise();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
std::unique_ptr<typename Backend::runtime> trainer<Run, Backend>::make_runtime() {
    try {
        return std::make_unique<typename Backend::runtime>(memory_needed, list::template most<batch_bytes>, pinned_needed);
    } catch (const out_of_memory& e) {
        throw out_of_memory(e.what() + ("\n" + list::template advice<Backend>(e.room)), e.room);
    }
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
    if constexpr (store_type::in_eight_bits) {
        ops.zero(store_.first_scales());
        ops.zero(store_.second_scales());
    }
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
    (void)state();  // steps under way belong to what was there, and stop nothing any more
    stopped_.clear();
    if constexpr (store_type::has_master) ops_type(*runtime_).round(store_.masters(), store_.weights());
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::check_batch(const token_batch& batch, bool training) const {
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
    for (index i = 0; i < table.count(); ++i) {
        expects(table.length(i) <= Phase::shape.context || table[i].document == padding_document, [&] {
            return "the phase's context is " + std::to_string(Phase::shape.context) + " tokens, and piece " + std::to_string(i) + " has " +
                   std::to_string(table.length(i));
        });
        expects(model::shape.positions != position_kind::learned || table.length(i) == 0 || table[i].document == padding_document ||
                    (table[i].position >= 0 && table[i].position + table.length(i) <= Phase::shape.context), [&] {
            return "positions are learned up to the context of " + std::to_string(Phase::shape.context) + ", and piece " + std::to_string(i) +
                   " lies at " + std::to_string(table[i].position) + " to " + std::to_string(table[i].position + table.length(i));
        });
    }
    check_arguments<Phase>(std::make_index_sequence<static_cast<std::size_t>(pattern_count<attention_of<Phase>>)>{}, table.count());
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
    // What lies on the device is not read here; that nothing was given at all is seen all the same.
    if (Backend::in_host_memory || !arguments_set_ || !std::is_same_v<attention_of<Phase>, attention_of<first_phase>>) {
        (check(complaint<pattern_at<attention_of<Phase>, static_cast<index>(I)>>(std::get<I>(arguments), documents)), ...);
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::set_arguments_of_first_phase(const stack_arguments<attention_of<first_phase>>& arguments) {
    arguments_ = arguments;
    arguments_set_ = true;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
void trainer<Run, Backend>::with_batch(const token_batch& batch, std::span<double> token_losses, F&& f) {
    held_region held(memory_, "batch", Backend::batch_memory(Phase::batch.budget, Phase::batch.max_pieces));
    held_region held_values(memory_, "arguments of patterns", argument_memory<Phase>);
    const auto room_of = [](const held_region& region) { return region.size() > 0 ? region.data() : nullptr; };
    std::byte* const room = room_of(held);  // where batches are read in place there is none
    const auto stage = [&](auto from, auto* to) { return runtime_->stage(from, to); };
    runtime_->next_batch();
    placed_batch placed = placed_batch::in<Backend>(room, batch, stage);
    const auto values = placed_arguments<attention_of<Phase>, Backend>(room_of(held_values), arguments_for<Phase>(), stage);
    double* const losses = placed_batch::losses_in<Backend>(room, Phase::batch.budget, Phase::batch.max_pieces);
    placed.token_losses = runtime_->stage_out(token_losses, losses);
    runtime_->batch_placed();
    f(placed, values);
    if (!token_losses.empty()) runtime_->collect(losses, token_losses);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
decoder_pass<Phase, Backend> trainer<Run, Backend>::pass(const stack_values<attention_of<Phase>>& values) {
    return {ops_type(*runtime_), memory_, state_region_.as<step_state>(), values, &pinned_};
}

}  // namespace longspan
