// SPDX-License-Identifier: Apache-2.0
//
// Steps of one long document, each under what makes it fit: a line of JSON each. Names choose; without any, those that take seconds.
//     bench_cuda_long_steps [a_recomputed] [a_selective] [a_window] [b_away] [b_reversible] [b_million] [b_two_million]
//                          [b_four_million] [b_million_away] [llama]
#include <string_view>

#include "models.hpp"
#include "step.cuh"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

constexpr auto window = ls::causal & ls::window<1024>;
constexpr auto away = ls::offload<ls::recompute_every<1>>;
constexpr auto narrow = ls::moments<ls::eight_bit>.without_masters();

// Narrow models want longer chunks (docs/memory.md).
struct a_recomputed : models::a<131072, 131072> {
    static constexpr auto shape = models::in_parts(models::a<131072, 131072>::shape, 32768);
    static constexpr auto checkpoint = away;
};
struct a_selective : models::a<131072, 131072> {
    static constexpr auto checkpoint = ls::selective;
};
struct a_window : models::a<1048576, 1048576> {
    static constexpr auto shape = models::in_parts(models::a<1048576, 1048576>::shape, 131072);
    static constexpr auto attention = window;
    static constexpr auto checkpoint = ls::selective;
};
struct b_away : models::b<524288, 524288> {
    static constexpr auto shape = models::in_parts(models::b<524288, 524288>::shape, 32768);
    static constexpr auto attention = window;
    static constexpr auto checkpoint = away;
    static constexpr auto update = narrow;
};
struct b_million_away : models::b<1048576, 1048576> {
    static constexpr auto shape = models::in_parts(models::b<1048576, 1048576>::shape, 32768, 4);
    static constexpr auto attention = window;
    static constexpr auto checkpoint = away;
    static constexpr auto update = narrow;
};
static_assert(ls::plan<b_million_away, ls::cuda::device>.peak() <= 70 * ls::GiB);
/// Of 16 heads as few at a time as the length asks for: every group more is another pass over the stream.
template <index Tokens, index Group>
struct b_reversible : models::b<Tokens, Tokens> {
    static constexpr auto shape = models::in_parts(models::on_two_streams(models::b<Tokens, Tokens>::shape), 32768, Group);
    static constexpr auto attention = window;
    static constexpr auto checkpoint = ls::reversible;
    static constexpr auto update = narrow.by_bucket();
};
using b_million = b_reversible<1048576, 8>;
using b_two_million = b_reversible<2097152, 8>;
using b_four_million = b_reversible<4194304, 2>;
static_assert(ls::plan<b_million, ls::cuda::device>.peak() <= 60 * ls::GiB);
static_assert(ls::plan<b_two_million, ls::cuda::device>.peak() <= 90 * ls::GiB);
static_assert(ls::plan<b_four_million, ls::cuda::device>.peak() <= 136 * ls::GiB);
/// Llama 3's shape of eight billion parameters.
struct llama {
    static constexpr ls::decoder_shape shape{.layers = 32, .width = 4096, .heads = 32, .key_value_heads = 8, .hidden = 14336, .vocabulary = 128256,
                                             .context = 1000064, .residual = ls::residual_kind::two_streams, .tied = false, .loss_chunk = 4096,
                                             .token_chunk = 32768, .head_group = 4};
    static constexpr auto attention = window;
    static constexpr auto checkpoint = ls::reversible;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<1000064>;
    static constexpr auto update = narrow.by_bucket();
};

}  // namespace

int main(int count, char** words) {
    const auto asked = [&](std::string_view name, bool seconds) {
        for (int i = 1; i < count; ++i) {
            if (name == words[i]) return true;
        }
        return count == 1 && seconds;
    };
    using namespace step_bench;
    if (asked("a_recomputed", true)) run_once<a_recomputed>("A 1x131072 offload<recompute_every<1>>, token_chunk");
    if (asked("a_selective", true)) run_once<a_selective>("A 1x131072 selective");
    if (asked("a_window", true)) run_once<a_window>("A 1x1048576, window 1024, selective, token_chunk");
    if (asked("b_away", true)) run_once<b_away>("B 1x524288, window 1024, offload<recompute_every<1>>, token_chunk, narrow update");
    if (asked("b_reversible", true)) run_once<b_reversible<524288, 0>>("B on two streams 1x524288, window 1024, reversible, by bucket");
    if (asked("b_million", true)) run_once<b_million>("B on two streams 1x1048576, window 1024, reversible, by bucket", false);
    if (asked("b_two_million", false)) run_once<b_two_million>("B on two streams 1x2097152, window 1024, reversible, by bucket", false);
    if (asked("b_four_million", false)) run_once<b_four_million>("B on two streams 1x4194304, window 1024, reversible, by bucket", false);
    if (asked("b_million_away", false)) run_once<b_million_away>("B 1x1048576, window 1024, offload<recompute_every<1>>, narrow update", false);
    if (asked("llama", false)) run_once<llama>("Llama 8B on two streams 1x1000064, window 1024, reversible, by bucket", false);
}
