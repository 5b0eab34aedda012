// SPDX-License-Identifier: Apache-2.0
//
// The problems of cuda/attention_cases.cuh, given to Hopper's kernels.
#pragma once

#include <longspan/cuda/hopper/attention.cuh>

#include "../attention_cases.cuh"

namespace cuda_test {

template <class P, index HeadDim, class Score, class T>
struct hopper_problem : attention_problem<P, HeadDim, Score, T> {
    using base = attention_problem<P, HeadDim, Score, T>;
    using base::base;
    using base::n;
    using op = longspan::cuda::hopper::attention<P, HeadDim, Score>;

    void forward(bool merge = false) {
        base::settle();
        op::forward(this->stream, this->view(this->q, n.query_tokens, n.heads), this->view(this->k, n.key_tokens, n.key_heads),
                    this->view(this->v, n.key_tokens, n.key_heads), this->device_span(), this->given(), this->values,
                    this->view(this->out, n.query_tokens, n.heads), this->lse.view(n.query_tokens, n.heads), merge);
    }
};

/// `got`, `exact` and `unfused` of the forward alone.
inline void check_forward(const std::vector<double>& out, const std::vector<double>& lse, const attention_results& exact,
                          const attention_results& unfused, double floor) {
    const double error = relative_error(out, exact.out), allowed = 1.05 * relative_error(unfused.out, exact.out) + floor;
    CHECK_MESSAGE(error <= allowed, "out: " << error << ", allowed " << allowed);
    double worst = 0;
    for (std::size_t i = 0; i < exact.lse.size(); ++i) {
        if (lse[i] == exact.lse[i]) continue;
        const double off = std::abs(lse[i] - exact.lse[i]);
        worst = off <= worst ? worst : off;  // NaN sticks
    }
    CHECK_MESSAGE(worst <= 2e-5, "lse: " << worst);
}

}  // namespace cuda_test
