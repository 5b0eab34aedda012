// SPDX-License-Identifier: Apache-2.0
//
// Clipping by global norm, and the one place where gradient sums become gradients. Gradients are kept as sums over all targets
// of all micro-batches and ranks; dividing by their number, undoing a loss scale and clipping are one factor that joins the
// update, so none of them costs a pass over the parameters:
//
//   norm = √(Σ g²) / divisor,   factor = min(1, limit / norm) / divisor
//
// Memory: none. Reference: Pascanu et al., "On the difficulty of training recurrent neural networks", arXiv:1211.5063.
#pragma once

#include <cmath>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/optim/detail/elementary.hpp>

namespace longspan {

/// Hyper-parameter: the largest length of the whole gradient, as one vector over all parameters. GPT-3 and Llama use 1.
/// `clip_by_global_norm{no_clip}` leaves gradients as they are.
struct clip_by_global_norm {
    double limit = 1.0;

    constexpr void check() const {
        if (!(limit > 0.0)) throw bad_argument("clip_by_global_norm: expected a limit above 0, got " + detail::number(limit));
    }
};
inline constexpr double no_clip = HUGE_VAL;

/// How gradient sums enter an update.
struct gradient_scale {
    double norm = 0;       ///< of the mean gradient, before clipping
    double factor = 0;     ///< multiplies each gradient sum
    bool clipped = false;  ///< the norm was beyond the limit
    bool finite = true;    ///< false: the update must not happen
};

/// From Σ g² over all gradient sums, and what they are to be divided by (above 0): the number of targets, times the loss scale
/// if any. A norm that is not finite comes back as such, with factor 0. Where the backend decides whether a step counts, it runs there.
LONGSPAN_HD [[nodiscard]] inline gradient_scale gradient_scale_of(double sum_of_squares, double divisor, double limit) {
    const double norm = sqrt(sum_of_squares) / divisor;
    if (!(norm - norm == 0)) return {norm, 0.0, false, false};
    if (norm > limit) return {norm, limit / norm / divisor, true, true};
    return {norm, 1.0 / divisor, false, true};
}

/// The same, everything checked. Throws bad_argument when there is nothing to divide by.
[[nodiscard]] inline gradient_scale scale_gradients(double sum_of_squares, double divisor, clip_by_global_norm clip = {}) {
    if (!(divisor > 0.0))
        throw bad_argument("scale_gradients: expected at least one target to divide by, got " + detail::number(divisor));
    clip.check();
    return gradient_scale_of(sum_of_squares, divisor, clip.limit);
}

}  // namespace longspan
