// SPDX-License-Identifier: Apache-2.0
//
// A step whose gradients are used bucket by bucket, as its backend sees it (optim/step_state.hpp, of which it has the state): there is
// never a whole gradient, so there is no global norm before the first parameter changes, and nothing to clip by. What an update needs is
// known when the step begins; each bucket is judged by itself when its gradients are there:
//
//     begin_bucket_step  →  for the head, the blocks from the last to the first, the embedding:
//                           state->norm = Σ g² of the bucket;  judge_bucket;  update where state->apply
//                        →  conclude_bucket_step
//
// A loss or an id that makes no sense is known before the first bucket: nothing changes, and the step is refused as any other. A bucket
// whose gradient is not finite is not updated, nor are those behind it, while those before it were: parameters are of two steps then,
// and the run stops, `not_finite` naming the bucket. Later steps change nothing until the counters are set from outside.
//
// Where passes run twice, the first measures: begin_first_pass; measure_bucket for each; weigh_buckets, which decides as conclude_step does;
// then the second, whose buckets are updated where state->apply; conclude_second_pass. A step is refused as a whole.
#pragma once

#include <longspan/optim/step_state.hpp>

namespace longspan {

/// Before the micro-batch.
struct begin_bucket_step {
    step_state* state;
    const step_request* asked;
    adamw optimizer;
    double weight_decay;  ///< of parameters that decay

    LONGSPAN_HD void operator()() const {
        begin_step{state, asked}();
        step_state& s = *state;
        s.norm = 0;
        s.apply = 0;
        if (asked->restated) s.not_finite = -1;
        if (s.not_finite >= 0 || !(s.target_weight > 0)) return;
        const double factor = 1.0 / (s.target_weight * s.scale.value);
        ++s.updates;
        s.scalars[0] = update_scalars(optimizer, weight_decay, s.updates, s.learning_rate, factor);
        s.scalars[1] = update_scalars(optimizer, 0, s.updates, s.learning_rate, factor);
        s.apply = 1;
    }
};

/// Before the first of two passes.
struct begin_first_pass {
    step_state* state;
    const step_request* asked;

    LONGSPAN_HD void operator()() const {
        begin_step{state, asked}();
        state->not_finite = -1;
    }
};

/// When the squares of a bucket's gradients are summed up in state->norm.
struct judge_bucket {
    step_state* state;
    index bucket;

    LONGSPAN_HD void operator()() const {
        step_state& s = *state;
        if (s.apply == 0) return;
        if (s.bad.any() || s.bad.overflowed() || !(s.losses.loss - s.losses.loss == 0)) {  // known before the first bucket, the head's
            s.apply = 0;
            --s.updates;
        } else if (!(s.norm - s.norm == 0)) {
            s.apply = 0;
            s.not_finite = bucket;
        } else {
            s.squares += s.norm;
        }
    }
};

/// After the last bucket. A step that met an id outside the vocabulary does not count.
struct conclude_bucket_step {
    step_state* state;

    LONGSPAN_HD void operator()() const {
        step_state& s = *state;
        s.norm = 0;
        if (s.bad.any()) return;
        ++s.keys.step;
        if (s.target_weight > 0) s.norm = sqrt(s.squares) / (s.target_weight * s.scale.value);
    }
};

/// In a first pass, when the squares of a bucket's gradients are summed up in state->norm.
struct measure_bucket {
    step_state* state;
    index bucket;

    LONGSPAN_HD void operator()() const {
        step_state& s = *state;
        s.squares += s.norm;
        if (!(s.norm - s.norm == 0) && s.not_finite < 0) s.not_finite = bucket;
    }
};

/// Between the passes: mean, loss scale and clip as one factor. The second makes the same loss again, under the same keys.
struct weigh_buckets {
    conclude_step decide;

    LONGSPAN_HD void operator()() const {
        step_state& s = *decide.state;
        const run_keys keys = s.keys;
        decide();
        s.keys = keys;
        s.losses = {};
    }
};

/// After the second pass.
struct conclude_second_pass {
    step_state* state;

    LONGSPAN_HD void operator()() const {
        if (!state->bad.any()) ++state->keys.step;
    }
};

}  // namespace longspan
