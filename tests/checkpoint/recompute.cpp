// SPDX-License-Identifier: Apache-2.0
//
// Every policy takes what its plan says, to the byte, and gives the bits of every other.
#include <doctest/doctest.h>

#include <type_traits>

#include "policies_agree.hpp"

namespace models {

namespace {

constexpr decoder_shape five = [] {
    decoder_shape s = llama;
    s.layers = 5;
    return s;
}();
/// With dropout and stochastic depth, rotated where they lie.
constexpr decoder_shape five_dropped = [] {
    decoder_shape s = five;
    s.dropout = 0.1, s.attention_dropout = 0.15, s.stochastic_depth = 0.3;
    s.token_chunk = 50, s.head_group = 1;  // of 131 tokens, of two
    return s;
}();
/// Segments of two, where attention's tensors are kept: outputs are made again from kept tensors.
constexpr segment_policy<block_rule{.segment = 2, .kept_from = cost::attention}> pairs{};

}  // namespace

TEST_CASE("policies give the same bits: fp32, five layers, documents rotated in place, dropout") {
    policies_agree<fp32, five_dropped, recompute_every<1>, recompute_every<2>, recompute_every<9>, recompute_root, selective, selective_products, pairs,
                   recompute_every<2>.for_blocks<3>().then(selective), offload<recompute_every<1>>, offload<recompute_every<2>>, offload<selective, 3>,
                   offload<store_all>.for_blocks<3>().then(pairs)>();
}
TEST_CASE("policies give the same bits: fp64, every option, dropout everywhere") {
    policies_agree<fp64, four_rich, recompute_every<1>, selective, selective_products, offload<store_all>>();
}
TEST_CASE("policies give the same bits: mixed<fp16>, LayerNorm, GELU, biases") {
    policies_agree<mixed<fp16>, [] {
        decoder_shape s = gpt2;
        s.head_group = 1;
        return s;
    }(), selective, selective_products>();
}

TEST_CASE("recomputed blocks: all but the last segment's") {
    using three = std::remove_cvref_t<decltype(recompute_every<3>)>;
    CHECK(three::extent(0, 7).segments == 3);
    CHECK(three::made_again(cost::attention, 7) == 6);
    CHECK(three::extent(0, 2).segments == 1);
    CHECK(three::made_again(cost::attention, 2) == 0);
    using all = std::remove_cvref_t<decltype(store_all)>;
    CHECK(all::made_again(cost::product, 7) == 0);
}

TEST_CASE("recomputing holds less, the more so the deeper the stack") {
    const auto peak = [](auto policy, index blocks) {
        const stack_bytes stack{.blocks = blocks, .stream = 1000, .saved = region("s", 20000), .forward_scratch = region("f", 3000),
                                .backward_scratch = region("b", 5000), .turn = region("t", 4000)};
        return decltype(policy)::plan(stack).peak(1);
    };
    CHECK(peak(store_all, 16) == 16 * 21000 + 1000 + 4000);
    CHECK(peak(recompute_every<4>, 16) == 4 * 1000 + 4 * 20000 + 3 * 1000 + 1000 + 4000);
    CHECK(peak(recompute_every<1>, 16) == 16 * 1000 + 20000 + 1000 + 4000);
}

}  // namespace models
