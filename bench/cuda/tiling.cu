// SPDX-License-Identifier: Apache-2.0
//
// What it costs to need less at a time: whole steps of model B on two residual streams, one document of 131,072 tokens, causal within a
// window of 1,024, reversible; all at once, by chunks of 8,192 and of 32,768 tokens, and with attention by groups of eight, four and two of 16
// heads. Each twice and in turn, in one process; the first step's loss tells whether they are the same model.
#include "models.hpp"
#include "step.cuh"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

template <index Chunk, index Group>
struct paired : models::b<131072, 131072> {
    static constexpr auto shape = models::in_parts(models::on_two_streams(models::b<131072, 131072>::shape), Chunk, Group);
    static constexpr auto attention = ls::causal & ls::window<1024>;
    static constexpr auto checkpoint = ls::reversible;
};
static_assert(ls::plan<paired<32768, 8>, ls::cuda::device>.peak() < ls::plan<paired<32768, 0>, ls::cuda::device>.peak());

}  // namespace

int main() {
    for (int round = 0; round < 2; ++round) {
        step_bench::run<paired<0, 0>>("B on two streams 1x131072 reversible", 131072, 3);
        step_bench::run<paired<8192, 0>>("B on two streams 1x131072 reversible, token_chunk 8192", 131072, 3);
        step_bench::run<paired<32768, 0>>("B on two streams 1x131072 reversible, token_chunk 32768", 131072, 3);
        step_bench::run<paired<32768, 8>>("B on two streams 1x131072 reversible, token_chunk 32768, head_group 8", 131072, 3);
        step_bench::run<paired<32768, 4>>("B on two streams 1x131072 reversible, token_chunk 32768, head_group 4", 131072, 3);
        step_bench::run<paired<32768, 2>>("B on two streams 1x131072 reversible, token_chunk 32768, head_group 2", 131072, 3);
    }
}
