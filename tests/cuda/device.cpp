// SPDX-License-Identifier: Apache-2.0
//
// What a plan asks of a GPU, answered without one: this file is compiled by g++ alone.
#include <doctest/doctest.h>

#include <initializer_list>
#include <string_view>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/cuda/device.hpp>
#include <longspan/model/plan.hpp>
#include <longspan/pattern/band.hpp>

namespace ls = longspan;

namespace {

using ls::bytes, ls::index, ls::cuda::device, ls::cuda::portable_device;

template <ls::decoder_shape Shape, auto Precision = ls::mixed<ls::bf16>>
struct config {
    static constexpr auto shape = Shape;
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::recompute_every<2>;
    static constexpr auto precision = Precision;
    static constexpr auto batch = ls::packed<4099>;
};
template <ls::decoder_shape Shape, auto Precision = ls::mixed<ls::bf16>>
using model = ls::model_of_config<config<Shape, Precision>>;

constexpr ls::decoder_shape heads_of(index width) {
    return {.layers = 2, .width = 768, .heads = 6, .key_value_heads = 2, .head_width = width, .hidden = 2048, .vocabulary = 50304, .context = 4099};
}

}  // namespace

TEST_CASE("device: a batch's tables, each at its alignment") {
    for (const index tokens : {1, 63, 64, 4099}) {
        for (const index pieces : {1, 11, 1000}) {
            bytes tables = 0;
            const auto add = [&](bytes size) { tables += ls::round_up(size, device::alignment); };
            for (int i = 0; i < 3; ++i) add(tokens * 4);  // tokens, targets, ids in order
            add(tokens * 4);                              // weights
            add(pieces * 24);
            add(tokens * 8);  // losses
            CHECK(device::batch_memory(tokens, pieces) == tables);
        }
    }
    static_assert(sizeof(ls::piece) == 24);
    static_assert(device::segment_memory(4099, 7) == ls::cuda::attention_segment_memory(4099, 7));
    static_assert(device::update_workspace(1'000'000'000) == device::update_workspace(1));
}

TEST_CASE("device: the scratch of ops is that of the one that needs most") {
    namespace cuda = ls::cuda;
    static constexpr ls::decoder_shape wide{.layers = 2, .width = 32768, .heads = 256, .hidden = 100, .vocabulary = 61, .context = 100};
    static constexpr ls::decoder_shape gated{.layers = 2, .width = 64, .heads = 1, .hidden = 80000, .vocabulary = 61, .context = 100};
    static constexpr ls::decoder_shape plain{.layers = 2, .width = 64, .heads = 1, .hidden = 80000, .vocabulary = 61, .context = 100, .mlp = ls::mlp_kind::gelu};
    static constexpr ls::decoder_shape many_heads{.layers = 2, .width = 64, .heads = 1024, .head_width = 128, .hidden = 100, .vocabulary = 61, .context = 100};
    static constexpr ls::decoder_shape long_rows{.layers = 2, .width = 8192, .heads = 64, .hidden = 100, .vocabulary = 61, .context = 100};
    CHECK(device::workspace<model<heads_of(128)>>(4099) == cuda::gemm_workspace);
    CHECK(device::workspace<model<wide>>(100) == cuda::norm_workspace(32768));
    CHECK(device::workspace<model<gated>>(100) == cuda::bias_gradient_workspace(2 * 80000));
    CHECK(device::workspace<model<plain>>(100) == cuda::bias_gradient_workspace(80000));
    CHECK(device::workspace<model<many_heads>>(100) == cuda::bias_gradient_workspace(3 * 1024 * 128));
    CHECK(device::workspace<model<long_rows>>(65536) == cuda::embedding_backward_workspace(65536, 8192));
}

TEST_CASE("device: who takes Hopper's attention, and what each takes of memory") {
    static_assert(device::on_hopper<model<heads_of(64)>> && device::on_hopper<model<heads_of(128)>> && device::on_hopper<model<heads_of(256)>>);
    static_assert(!device::on_hopper<model<heads_of(80)>> && !device::on_hopper<model<heads_of(128), ls::fp32>>);
    static_assert(device::on_hopper<model<heads_of(128), ls::mixed<ls::fp16>>>);
    static_assert(!portable_device::on_hopper<model<heads_of(128)>>);
    static_assert(device::attention_workspace<model<heads_of(128)>>(999) == ls::cuda::hopper::attention_backward_workspace(999, 6, 2, 128));
    static_assert(device::attention_workspace<model<heads_of(256)>>(999) == ls::cuda::hopper::attention_backward_workspace(999, 6, 2, 256));
    static_assert(ls::cuda::hopper::attention_backward_workspace(1, 1, 1, 256) >= ls::cuda::workspace_alignment);  // the forward's counter
    static_assert(device::attention_workspace<model<heads_of(80)>>(999) == ls::cuda::attention_backward_workspace(999, 6, 2, 80));
    static_assert(portable_device::attention_workspace<model<heads_of(128)>>(999) == ls::cuda::attention_backward_workspace(999, 6, 2, 128));
    CHECK(std::string_view(device::name) != std::string_view(portable_device::name));
}

TEST_CASE("device: plans of a GPU are constants") {
    using on = config<heads_of(128)>;
    static_assert(ls::plan<on, device>.peak() % device::alignment == 0);
    static_assert(ls::plan<on, device>.peak() > ls::plan<on, device>.parameters);
    // Logits are kept a window at a time: never tokens × vocabulary.
    static_assert(device::loss_workspace<model<heads_of(128)>>(4'000'000) ==
                  ls::cuda::loss_workspace<ls::bf16>(heads_of(128).loss_chunk, heads_of(128).vocabulary));
    static_assert(device::loss_workspace<model<heads_of(128)>>(10) == ls::cuda::loss_workspace<ls::bf16>(10, heads_of(128).vocabulary));
    CHECK(ls::plan<config<heads_of(128)>, portable_device>.peak() <= ls::plan<config<heads_of(128)>, device>.peak());
}
