// SPDX-License-Identifier: Apache-2.0
//
// What it costs to keep nothing: whole steps of model B on two residual streams, causal within a window of 1,024, under store_all,
// recompute_every<1> and reversible, in one process and in turn; then reversible at 524,288 tokens, which
// are taken 32,768 at a time, and of 16 heads eight (bench/cuda/tiling.cu says what that costs). The losses printed can be compared:
// policies of one model give the same.
#include "models.hpp"
#include "step.cuh"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

template <index Tokens, index Chunk, index Group, auto Policy>
struct paired : models::b<Tokens, 32768> {
    static constexpr auto shape = models::in_parts(models::on_two_streams(models::b<Tokens, 32768>::shape), Chunk, Group);
    static constexpr auto attention = ls::causal & ls::window<1024>;
    static constexpr auto checkpoint = Policy;
};

}  // namespace

int main() {
    step_bench::run<paired<32768, 0, 0, ls::store_all>>("B on two streams 1x32768 store_all", 32768, 8);
    step_bench::run<paired<32768, 0, 0, ls::recompute_every<1>>>("B on two streams 1x32768 recompute_every<1>", 32768, 8);
    step_bench::run<paired<32768, 0, 0, ls::reversible>>("B on two streams 1x32768 reversible", 32768, 8);
    step_bench::run<paired<524288, 32768, 8, ls::reversible>>("B on two streams 16x32768 reversible, token_chunk 32768, head_group 8", 32768, 3);
}
