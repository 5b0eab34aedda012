// SPDX-License-Identifier: Apache-2.0
//
// The problems of cuda/attention_cases.cuh, given to Hopper's kernels.
#pragma once

#include <longspan/cuda/hopper/attention.cuh>

#include "../attention_cases.cuh"

namespace cuda_test {

template <class P, index HeadDim, class Score, class T, longspan::cuda::hopper::sums Sums>
struct hopper_problem_with : attention_problem<P, HeadDim, Score, T> {
    using base = attention_problem<P, HeadDim, Score, T>;
    using attention_view = longspan::cuda::statistic_view<const float>;
    using base::n;
    using op = longspan::cuda::hopper::attention<P, HeadDim, Score, Sums>;

    device_array<std::byte> room;

    template <class... A>
    explicit hopper_problem_with(std::vector<attention_segment> segments, index heads, index key_heads, A&&... rest)
        : base(std::move(segments), heads, key_heads, std::forward<A>(rest)...),
          room(static_cast<std::size_t>(op::backward_workspace(base::n.query_tokens, heads, key_heads))) {}

    void forward(bool merge = false) {
        base::settle();
        op::forward(this->stream, this->view(this->q, n.query_tokens, n.heads), this->view(this->k, n.key_tokens, n.key_heads),
                    this->view(this->v, n.key_tokens, n.key_heads), this->device_span(), this->given(), this->values,
                    this->view(this->out, n.query_tokens, n.heads), this->lse.view(n.query_tokens, n.heads), room.data(), merge);
    }
    void backward(accumulate add = accumulate::no, attention_view delta = {}) {
        base::settle();
        op::backward(this->stream, this->view(this->q, n.query_tokens, n.heads), this->view(this->k, n.key_tokens, n.key_heads),
                     this->view(this->v, n.key_tokens, n.key_heads), this->device_span(), this->given(), this->values,
                     this->view(this->d_out, n.query_tokens, n.heads), this->view(this->out, n.query_tokens, n.heads),
                     this->lse.view(n.query_tokens, n.heads), delta, this->view(this->dq, n.query_tokens, n.heads),
                     this->view(this->dk, n.key_tokens, n.key_heads), this->view(this->dv, n.key_tokens, n.key_heads), add,
                     Score::sink ? this->d_sinks.data() : nullptr, room.data());
    }
};
template <class P, index HeadDim, class Score, class T>
struct hopper_problem : hopper_problem_with<P, HeadDim, Score, T, longspan::cuda::hopper::sums::deterministic> {
    using hopper_problem_with<P, HeadDim, Score, T, longspan::cuda::hopper::sums::deterministic>::hopper_problem_with;
};

}  // namespace cuda_test
