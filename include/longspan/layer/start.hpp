// SPDX-License-Identifier: Apache-2.0
//
// How wide parameters start. A projection that reads a normalised input of `in` elements starts with deviation 1/√in, so its
// outputs have unit variance (LeCun et al., "Efficient BackProp", 1998). A projection that writes into the residual stream
// starts narrower by √(2·layers), so that the sum over all branches keeps unit variance at any depth (Radford et al.,
// "Language Models are Unsupervised Multitask Learners", 2019). Embeddings start at 0.02, as there.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

/// √x for x ≥ 0, usable in constant expressions (Newton's method from above; stops when it stops falling).
[[nodiscard]] constexpr double constant_sqrt(double x) {
    if (x <= 0) return 0;
    double root = x > 1 ? x : 1;
    for (;;) {
        const double next = 0.5 * (root + x / root);
        if (next >= root) return root;
        root = next;
    }
}

inline constexpr double embedding_deviation = 0.02;

/// For a projection from `in` elements of unit variance.
[[nodiscard]] constexpr double fan_in_deviation(index in) { return 1.0 / constant_sqrt(static_cast<double>(in)); }

/// For a projection from `in` elements into the stream of a stack of `layers` blocks, two branches each.
[[nodiscard]] constexpr double residual_deviation(index in, index layers) {
    return fan_in_deviation(in) / constant_sqrt(2.0 * static_cast<double>(layers));
}

}  // namespace longspan
