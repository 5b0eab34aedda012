// SPDX-License-Identifier: Apache-2.0
//
// One AdamW update's scalars: what passes between the optimizer, which computes them once an update in double
// (optim/adamw.hpp, where the formula stands), and the backends' kernels, which read them beside their pointers.
#pragma once

namespace longspan {

/// g = gradient_factor·(gradient sum); m ← β₁m + (1−β₁)g; v ← β₂v + (1−β₂)g²; p ← kept·p − step·m / (root_factor·√v + ε).
/// The defaults change no parameter.
struct adamw_update {
    double gradient_factor = 1;  ///< gradient sum → clipped mean gradient
    double beta1 = 0.9, beta2 = 0.95, epsilon = 1e-8;
    double kept = 1;         ///< 1 − ηλ
    double step = 0;         ///< η / (1 − β₁ᵗ)
    double root_factor = 1;  ///< 1 / √(1 − β₂ᵗ)
};

}  // namespace longspan
