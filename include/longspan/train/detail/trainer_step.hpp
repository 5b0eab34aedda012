// SPDX-License-Identifier: Apache-2.0
//
// The bodies of train/trainer.hpp that make an optimizer step of micro-batches: what is asked, what is recorded and replayed, what
// comes home.
#pragma once

#include <longspan/train/trainer.hpp>

namespace longspan {

namespace detail {

/// A backend that cannot throw where it meets an id leaves a note; this throws for it.
inline void expect_good_ids(const step_state& s) {
    expects(s.bad.token == bad_ids::none, [&] { return "embedding: the id of token " + std::to_string(s.bad.token) + " is outside the vocabulary"; });
    expects(s.bad.target == bad_ids::none, [&] { return "loss: the target of token " + std::to_string(s.bad.target) + " is outside the vocabulary"; });
}

/// Which stream of Model left which range.
template <class Model>
[[nodiscard]] std::string overflow_sentence(const step_state& s) {
    using format = typename Model::template storage<role::residual>;
    if constexpr (fixed_format<format>) {
        return "a residual stream of token " + std::to_string(s.bad.stream) + " is not finite or left the range of its fixed point, ±" +
               std::to_string(format::range);
    } else {
        return {};
    }
}

/// Of what is not a step: nothing is reported, so this throws.
template <class Model>
void expect_good_results(const step_state& s) {
    expect_good_ids(s);
    expects<stream_overflow>(!s.bad.overflowed(), [&] { return overflow_sentence<Model>(s); });
}

}  // namespace detail

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
std::size_t trainer<Run, Backend>::work_of(task what, bool weighted) {
    if (what == task::begin || what == task::update) return static_cast<std::size_t>(what);
    return static_cast<std::size_t>(2 + 4 * list::template number<Phase> + 2 * (what == task::evaluate) + weighted);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class Work>
void trainer<Run, Backend>::replay(task what, bool weighted, bool recordable, Work&& work) {
    const std::size_t number = work_of<Phase>(what, weighted);
    const auto marked = [&] {
        memory_.reset_high_water();
        work();
        marks_[number] = memory_.high_water();
    };
    if (recordable) runtime_->replay(static_cast<index>(number), marked);
    else marked();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
step_state trainer<Run, Backend>::begin_alone() {
    const run_state& mine = state();
    step_state* const there = state_region_.as<step_state>();
    step_state s = runtime_->fetch(there).get();
    s.keys = {mine.seed, static_cast<std::uint64_t>(mine.steps)};
    s.updates = mine.updates;
    s.scale = mine.scale;
    s.gradient_scale = static_cast<float>(mine.scale.value);
    s.bad = {};
    runtime_->send(s, there);
    return s;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
double trainer<Run, Backend>::accumulate_gradients(const token_batch& batch, std::span<double> token_losses) {
    expects(!update_type::in_buckets, [] {
        return std::string("accumulate_gradients: config.update says by_bucket(), so no gradients are kept that could add up");
    });
    check_batch<Phase>(batch, true);
    check_losses<Phase>(token_losses);
    const double before = begin_alone().losses.loss;
    with_batch<Phase>(batch, token_losses, [&](const placed_batch& placed, const auto& values) {
        const bool weighted = placed.weights != nullptr;
        replay<Phase>(task::accumulate, weighted, token_losses.empty(), [&] { add_gradients<Phase>(placed, values, weighted); });
    });
    const step_state after = runtime_->fetch(state_region_.as<step_state>()).get();
    detail::expect_good_results<model>(after);
    return after.losses.loss - before;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase, class F>
auto trainer<Run, Backend>::forward(const token_batch& batch, F&& f) {
    check_batch<Phase>(batch, false);
    const auto* weights = store_.weights().data();
    if constexpr (model::shape.streams() == 2) (void)begin_alone();
    std::optional<decltype(pass<Phase>({}).forward(placed_batch{}, weights, f))> kept;
    with_batch<Phase>(batch, {}, [&](const placed_batch& placed, const auto& values) { kept.emplace(pass<Phase>(values).forward(placed, weights, f)); });
    if constexpr (model::shape.streams() == 2) detail::expect_good_results<model>(runtime_->fetch(state_region_.as<step_state>()).get());
    return *std::move(kept);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
double trainer<Run, Backend>::evaluate(const token_batch& batch, std::span<double> token_losses) {
    check_batch<Phase>(batch, false);
    check_losses<Phase>(token_losses);
    step_state* const state = state_region_.as<step_state>();
    const step_state before = begin_alone();
    step_state empty = before;
    empty.losses = {};
    runtime_->send(empty, state);
    with_batch<Phase>(batch, token_losses, [&](const placed_batch& placed, const auto& values) {
        replay<Phase>(task::evaluate, placed.weights != nullptr, token_losses.empty(),
                      [&] { pass<Phase>(values).add_losses(placed, store_.weights().data()); });
    });
    const step_state after = runtime_->fetch(state).get();
    runtime_->send(before, state);
    detail::expect_good_results<model>(after);
    return after.losses.loss;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
double trainer<Run, Backend>::scheduled_rate(std::span<const token_batch> micro_batches) const {
    // Steps under way are taken to be good: a step's rate is a function of what was asked before it, not of when it was done.
    const index updates = state_.updates + submitted_ - settled_;
    index seen = state_.tokens;
    for (index step = settled_; step < submitted_; ++step) seen += records_[static_cast<std::size_t>(step % most_pending)].report.tokens;
    if constexpr (requires { Phase::schedule; }) {
        index tokens = 0;
        for (const token_batch& batch : micro_batches) tokens += batch.counts.tokens;
        return Phase::schedule.learning_rate(updates, seen, tokens);
    } else {
        // Wide enough apart for small models and short runs; a run that matters names its schedule.
        return warm_up{in_steps(100)}.then(constant{1e-3}).learning_rate(updates, seen, 0);
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
step_request trainer<Run, Backend>::request(double learning_rate, double target_weight) const {
    step_request asked;
    asked.learning_rate = learning_rate;
    asked.target_weight = target_weight;
    // With steps under way the backend's own counters lead; else the caller may have changed ours.
    asked.restated = submitted_ == settled_;
    asked.keys = {state_.seed, static_cast<std::uint64_t>(state_.steps)};
    asked.updates = state_.updates;
    asked.scale = state_.scale;
    return asked;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
pending_step<trainer<Run, Backend>> trainer<Run, Backend>::submit(std::span<const token_batch> micro_batches, double learning_rate) {
    for (const token_batch& batch : micro_batches) check_batch<Phase>(batch, true);
    check_learning_rate(learning_rate);
    expects<run_stopped>(stopped_.empty(), [&] { return stopped_; });
    expects(!update_type::in_buckets || micro_batches.size() <= 1, [&] {
        return "config.update says by_bucket(), so a step has one micro-batch; got " + std::to_string(micro_batches.size());
    });
    if (submitted_ - settled_ == most_pending) settle(settled_ + 1);

    record& made = records_[static_cast<std::size_t>(submitted_ % most_pending)];
    made.report = {};
    made.report.learning_rate = learning_rate;
    double weight = 0;
    for (const token_batch& batch : micro_batches) {
        weight += batch.counts.target_weight;
        made.report.tokens += batch.counts.tokens;
        made.report.targets += batch.counts.targets;
    }
    step_state* const state = state_region_.as<step_state>();
    runtime_->send(request(learning_rate, weight), request_region_.as<step_request>());
    replay<Phase>(task::begin, false, true, [&] {
        const step_request* const asked = request_region_.as<step_request>();
        if constexpr (!update_type::knows_norm) {
            runtime_->once(begin_bucket_step{state, asked, optimizer_, optimizer_.weight_decay});
        } else if constexpr (update_type::twice) {
            runtime_->once(begin_first_pass{state, asked});
        } else {
            runtime_->once(begin_step{state, asked});
            ops_type(*runtime_).zero(store_.gradients());
        }
    });
    for (const token_batch& batch : micro_batches) {
        with_batch<Phase>(batch, {}, [&](const placed_batch& placed, const auto& values) {
            const bool weighted = placed.weights != nullptr;
            const std::size_t number = work_of<Phase>(task::accumulate, weighted);
            replay<Phase>(task::accumulate, weighted, true, [&] { add_gradients<Phase>(placed, values, weighted); });
            made.report.high_water = std::max(made.report.high_water, marks_[number]);
            memory_marks& held = made.report.memory;
            held.forward = std::max(held.forward, passes_[number].forward);
            held.turn = std::max(held.turn, passes_[number].turn);
            held.backward = std::max(held.backward, passes_[number].backward);
            held.pinned = std::max(held.pinned, passes_[number].pinned);
        });
    }
    replay<Phase>(task::update, false, true, [&] { update(); });
    made.report.memory.update = marks_[static_cast<std::size_t>(task::update)];
    made.state = runtime_->fetch(state);
    return {*this, ++submitted_};
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
pending_step<trainer<Run, Backend>> trainer<Run, Backend>::submit(std::span<const token_batch> micro_batches) {
    return submit<Phase>(micro_batches, scheduled_rate<Phase>(micro_batches));
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
step_report trainer<Run, Backend>::step(std::span<const token_batch> micro_batches, double learning_rate) {
    return submit<Phase>(micro_batches, learning_rate).get();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
step_report trainer<Run, Backend>::step(std::span<const token_batch> micro_batches) {
    return submit<Phase>(micro_batches).get();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
step_report trainer<Run, Backend>::step(const token_batch& batch) {
    return submit<Phase>(std::span(&batch, 1)).get();
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::update() {
    step_state* const state = state_region_.as<step_state>();
    if constexpr (update_type::twice) return runtime_->once(conclude_second_pass{state});
    if constexpr (update_type::in_buckets) return runtime_->once(conclude_bucket_step{state});
    held_region workspace(memory_, "workspace of the update", Backend::update_workspace(layout_type::size));
    ops_type ops(*runtime_, workspace.data(), &state->bad);
    ops.sum_of_squares(store_.gradients(), &state->squares);
    runtime_->once(conclude_step{state, optimizer_, optimizer_.weight_decay, clip_.limit});
    ops.update(store_.run(), state->scalars, rounding_source{&state->keys.seed, &state->updates}, &state->apply);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
step_report trainer<Run, Backend>::report_of(index step) {
    while (settled_ < step) settle(settled_ + 1);
    expects(submitted_ - step < most_pending, [&] {
        return "a step's report is kept until " + std::to_string(most_pending) + " more steps were submitted; this one is gone";
    });
    const record& made = records_[static_cast<std::size_t>((step - 1) % most_pending)];
    detail::expect_good_ids(made.state.get());
    expects<run_stopped>(update_type::knows_norm || made.state.get().not_finite < 0, [&] { return made.report.refused; });
    return made.report;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
void trainer<Run, Backend>::settle(index step) {
    record& made = records_[static_cast<std::size_t>((step - 1) % most_pending)];
    const step_state& s = made.state.get();
    settled_ = step;
    if (s.bad.any()) return;
    state_.steps = static_cast<index>(s.keys.step);
    state_.updates = s.updates;
    state_.scale = s.scale;
    state_.tokens += made.report.tokens;
    step_report& report = made.report;
    report.step = state_.steps;
    if (!(s.target_weight > 0)) {
        report.refused = "none of the batch's tokens has a target";
        return;
    }
    report.loss = s.losses.loss / s.target_weight;
    report.gradient_norm = s.norm;
    if (s.apply != 0) return;
    if (s.bad.overflowed()) {
        report.loss = std::numeric_limits<double>::quiet_NaN();  // of streams without what did not fit
        report.refused = detail::overflow_sentence<model>(s);
        if (step != submitted_) return;
        if (const std::string weight = first_not_finite(-1, true); !weight.empty()) report.refused += ": " + weight;
        return;
    }
    if (!update_type::knows_norm && s.not_finite >= 0) {
        if (stopped_.empty()) {
            stopped_ = "step " + std::to_string(report.step) + ": the gradient of " + layout_type::bucket_name(s.not_finite) +
                       " is not finite. The buckets before it in the backward are updated, it and those behind it are not: the run cannot go on "
                       "from these parameters, and its last snapshot stands";
        }
        report.refused = stopped_;
        return;
    }
    report.refused = std::isfinite(s.losses.loss) ? "" : "the loss is not finite: ";
    report.refused += step == submitted_ ? first_not_finite(s.not_finite) : "a later step has begun, so no tensor can be named";
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
run_state& trainer<Run, Backend>::state() {
    while (settled_ < submitted_) settle(settled_ + 1);
    return state_;
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
std::string trainer<Run, Backend>::first_not_finite(index bucket, bool weights_alone) {
    // A weight comes before all that is computed from it. Gradients come to be from the head down, so of those the last in the
    // store was first in time.
    std::string weight, gradient;
    index* const answer = &state_region_.as<step_state>()->not_finite;
    layout_type::for_each_place([&](const parameter_place& place, const parameter& p) {
        const auto first = [&](auto all) {
            ops_type(*runtime_).first_non_finite(all.subspan(static_cast<std::size_t>(place.offset), static_cast<std::size_t>(p.size())), answer);
            return runtime_->fetch(answer).get();
        };
        const auto sentence = [&](const char* what, index at) {
            return what + place.name() + " is not finite at element " + std::to_string(at);
        };
        if (const index at = first(store_.weights()); at >= 0 && weight.empty()) weight = sentence("the weight ", at);
        if (weights_alone) return;
        if constexpr (!update_type::in_buckets) {
            if (const index at = first(store_.gradients()); at >= 0) gradient = sentence("the gradient of ", at);
        }
    });
    if (!weight.empty() || weights_alone) return weight;
    if (update_type::in_buckets) return bucket < 0 ? "every weight is finite" : "the gradient of " + layout_type::bucket_name(bucket) + " is not finite";
    return gradient.empty() ? "the norm of the gradients is not finite, though each of them is" : gradient;
}

}  // namespace longspan
