// SPDX-License-Identifier: Apache-2.0
//
// The bodies of train/trainer.hpp that make a micro-batch's gradients: summed up in the store, or a bucket at a time in one room, where
// config.update says what becomes of them: rounded and added to sums, measured, or used at once.
#pragma once

#include <longspan/train/trainer.hpp>

namespace longspan {

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Phase>
void trainer<Run, Backend>::add_gradients(const placed_batch& placed, const stack_values<attention_of<Phase>>& values, bool weighted) {
    pass_marks& marks = passes_[work_of<Phase>(task::accumulate, weighted)];
    if constexpr (update_type::through_a_room) {
        step_state* const state = state_region_.as<step_state>();
        const auto each = [&](auto use) { return pass<Phase>(values).use_gradients(placed, store_.weights().data(), store_.gradient_room().data(), use); };
        if constexpr (update_type::twice) {
            (void)each([this, state](const auto& ops, index bucket) {
                measure_squares(ops, bucket);
                runtime_->once(measure_bucket{state, bucket});
            });
            runtime_->once(weigh_buckets{{state, optimizer_, optimizer_.weight_decay, clip_.limit}});
        }
        marks = each([this](const auto& ops, index bucket) {
            if constexpr (update_type::in_bf16) {
                const auto room = store_.bucket_room(bucket);
                ops.add_rounded(room, store_.gradients().subspan(static_cast<std::size_t>(layout_type::bucket_offset(bucket)), room.size()));
            } else {
                update_bucket(ops, bucket);
            }
        });
    } else {
        marks = pass<Phase>(values).add_gradients(placed, store_.weights().data(), store_.gradients().data());
    }
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Ops>
void trainer<Run, Backend>::measure_squares(const Ops& ops, index bucket) {
    ops.sum_of_squares(store_.bucket_room(bucket), &state_region_.as<step_state>()->norm);
}

template <class Run, class Backend>
    requires(detail::phase_list<Run>::check())
template <class Ops>
void trainer<Run, Backend>::update_bucket(const Ops& ops, index bucket) {
    step_state* const state = state_region_.as<step_state>();
    if constexpr (!update_type::knows_norm) {
        measure_squares(ops, bucket);
        runtime_->once(judge_bucket{state, bucket});
    }
    ops.update(store_.bucket_run(bucket), state->scalars, rounding_source{&state->keys.seed, &state->updates}, &state->apply);
}

}  // namespace longspan
