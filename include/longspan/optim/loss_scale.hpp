// SPDX-License-Identifier: Apache-2.0
//
// Dynamic loss scaling: fp16's smallest number is 6·10⁻⁸, and most gradients of activations are smaller. The loss is multiplied
// by a power of two before the backward, and the sums of gradients are divided by it in the update's one factor. The scale
// doubles after a stretch of good steps and halves when a step overflows; such a step changes no parameter. It starts at 1,024:
// losses are summed, not averaged, so a logit's gradient starts near 1, and 65,504 is the largest number there is.
// Reference: Micikevicius et al., arXiv:1710.03740, section 3.2.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

/// The state of the scale; a run's snapshot holds it.
struct loss_scale {
    double value = 1;
    index good_steps = 0;  ///< since the last change
    bool dynamic = false;  ///< formats that need no scale keep 1

    static constexpr double first = 1024, largest = 0x1p24, smallest = 1;
    static constexpr index stretch = 2000;  ///< good steps before the scale doubles

    [[nodiscard]] static constexpr loss_scale start(bool needed) { return {needed ? first : 1.0, 0, needed}; }

    LONGSPAN_HD constexpr void good() {
        if (!dynamic || ++good_steps < stretch) return;
        good_steps = 0;
        if (value < largest) value *= 2;
    }
    LONGSPAN_HD constexpr void overflowed() {
        good_steps = 0;
        if (dynamic && value > smallest) value /= 2;
    }

    friend constexpr bool operator==(const loss_scale&, const loss_scale&) = default;
};

}  // namespace longspan
