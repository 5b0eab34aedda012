// SPDX-License-Identifier: Apache-2.0
//
// What a loss adds up over the tokens that have a target: on every backend the same three numbers, in the backend's memory.
#pragma once

#include <longspan/core/types.hpp>

namespace longspan {

struct cross_entropy_sums {
    double loss = 0;    ///< Σ a · loss, natural logarithm, a: the token's weight
    double weight = 0;  ///< Σ a
    index targets = 0;  ///< how many

    constexpr cross_entropy_sums& operator+=(const cross_entropy_sums& other) {
        loss += other.loss;
        weight += other.weight;
        targets += other.targets;
        return *this;
    }
};

}  // namespace longspan
