// SPDX-License-Identifier: Apache-2.0
//
// One optimizer step as its backend sees it: what is asked of it, what is summed up on the way, and what is decided at its end.
// It lies in the backend's memory, so that a step is decided where its gradients are: nobody waits, and a step that was recorded
// once finds new numbers each time it is replayed. The deciding code is the same on every backend.
#pragma once

#include <cstdint>

#include <longspan/core/adamw_update.hpp>
#include <longspan/core/bad_ids.hpp>
#include <longspan/core/cross_entropy_sums.hpp>
#include <longspan/core/run_keys.hpp>
#include <longspan/optim/adamw.hpp>
#include <longspan/optim/clip.hpp>
#include <longspan/optim/loss_scale.hpp>

namespace longspan {

/// What the caller asks of a step.
struct step_request {
    double learning_rate = 0;
    double target_weight = 0;  ///< Σ weights of the targets of all micro-batches: what sums are divided by
    bool restated = true;      ///< counters below were set by the caller, not left by the step before
    run_keys keys{};
    index updates = 0;
    loss_scale scale{};
};

struct step_state {
    run_keys keys;       ///< of every random draw of the step
    index updates = 0;   ///< steps that changed parameters: the optimizer's counter
    loss_scale scale;
    double learning_rate = 0, target_weight = 0;

    float gradient_scale = 1;   ///< scale.value, as the loss reads it
    int apply = 0;              ///< whether parameters may change
    cross_entropy_sums losses;  ///< over all micro-batches
    double squares = 0;  ///< Σ g² over all gradient sums
    bad_ids bad;         ///< the first token whose id, or target, is outside the vocabulary, or whose stream left its range

    double norm = 0;             ///< of the mean gradient, before clipping
    adamw_update scalars[2] = {};  ///< of parameters that decay, and of those that do not
    index not_finite = -1;         ///< where a search for what is not finite leaves its answer
};

/// Before the first micro-batch.
struct begin_step {
    step_state* state;
    const step_request* asked;

    LONGSPAN_HD void operator()() const {
        step_state& s = *state;
        if (asked->restated) {
            s.keys = asked->keys;
            s.updates = asked->updates;
            s.scale = asked->scale;
        }
        s.learning_rate = asked->learning_rate;
        s.target_weight = asked->target_weight;
        s.gradient_scale = static_cast<float>(s.scale.value);
        s.losses = {};
        s.squares = 0;
        s.bad = {};
    }
};

/// After the gradients' squares are summed: mean, loss scale and clip become one factor; a step whose loss or norm is not finite,
/// that has no target, whose streams left their range, or that met an id outside the vocabulary changes no parameter. The last does not
/// count as a step either.
struct conclude_step {
    step_state* state;
    adamw optimizer;
    double weight_decay;  ///< of parameters that decay
    double clip_limit;

    LONGSPAN_HD void operator()() const {
        step_state& s = *state;
        s.apply = 0;
        s.norm = 0;
        if (s.bad.any()) return;
        ++s.keys.step;
        if (!(s.target_weight > 0) || s.bad.overflowed()) return;
        const gradient_scale scale = gradient_scale_of(s.squares, s.target_weight * s.scale.value, clip_limit);
        s.norm = scale.norm;
        if (!scale.finite || !(s.losses.loss - s.losses.loss == 0)) {
            s.scale.overflowed();
            return;
        }
        ++s.updates;
        s.scalars[0] = update_scalars(optimizer, weight_decay, s.updates, s.learning_rate, scale.factor);
        s.scalars[1] = update_scalars(optimizer, 0, s.updates, s.learning_rate, scale.factor);
        s.apply = 1;
        s.scale.good();
    }
};

}  // namespace longspan
