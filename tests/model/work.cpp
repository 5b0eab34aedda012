// SPDX-License-Identifier: Apache-2.0
//
// What parts of a model have to do, against counts by hand: every number below is written down from the ops of layer/, not from the code
// that it tests.
#include <doctest/doctest.h>

#include <longspan/model/work.hpp>

#include "configs.hpp"

namespace {

namespace ls = longspan;
using ls::cost;
using ls::index;  // not POSIX's

template <ls::decoder_shape Shape, auto Precision>
using work_of = ls::model_work<ls::model_of_config<models::config<Shape, ls::causal, ls::store_all, Precision>>>;

/// Width 24, projection 48 (24 of queries, 12 each of keys and values), MLP 40, gated 80, two bytes an element.
using llama = work_of<models::llama, ls::mixed<ls::bf16>>;
/// Width 24, projection 72, MLP 33, biases, floats.
using gpt2 = work_of<models::gpt2, ls::fp32>;

constexpr ls::decoder_shape paired_shape = [] {
    ls::decoder_shape s = models::llama;
    s.residual = ls::residual_kind::two_streams, s.token_chunk = 50, s.qk_norm = true, s.dropout = 0.1;
    return s;
}();
using paired = work_of<paired_shape, ls::mixed<ls::bf16>>;
/// Two groups of two heads and one of keys and values.
using grouped = work_of<[] {
    ls::decoder_shape s = paired_shape;
    s.head_group = 1;
    return s;
}(), ls::mixed<ls::bf16>>;

using uneven = work_of<[] {
    ls::decoder_shape s = models::llama;
    s.token_chunk = 60;
    return s;
}(), ls::mixed<ls::bf16>>;

constexpr double t = 131, pairs = 2000;

}  // namespace

TEST_CASE("work: a block forward, by what its tensors cost") {
    constexpr ls::work product = llama::forward(cost::product, t, pairs), expansion = llama::forward(cost::expansion, t, pairs);
    constexpr ls::work attention = llama::forward(cost::attention, t, pairs), output = llama::forward(cost::output, t, pairs);
    CHECK(product.products == t * 2 * (24 * 48 + 24 * 24));
    CHECK(expansion.products == t * 2 * 24 * 80);
    CHECK(output.products == t * 2 * 40 * 24);
    CHECK(attention.attention_forward == pairs * 4 * 24);
    CHECK(attention.forward_queries == t);
    // Norm in and out, rotation of 24 + 12 in place with three floats of cosines and of sines; norm; activation of 80 into 40.
    CHECK(product.pass_bytes == t * (2 * 24 * 2 + 2 * 36 * 2 + 6 * 4));
    CHECK(expansion.pass_bytes == t * 2 * 24 * 2);
    CHECK(output.pass_bytes == t * (80 + 40) * 2);
    CHECK(attention.pass_bytes == 0);
    // In, out, the stream that is added to, and weights.
    CHECK(product.product_bytes == t * 2 * (24 + 48 + 24 + 24 + 24) + 2 * (24 * 48 + 24 * 24));
    CHECK(expansion.product_bytes == t * 2 * (24 + 80) + 2 * 24 * 80);
    CHECK(output.product_bytes == t * 2 * (40 + 24 + 24) + 2 * 40 * 24);
    CHECK(llama::forward(cost::pass, t, pairs).operations() == 0);
    CHECK(product.product_depths == 24 + 24);
    CHECK(expansion.product_depths == 24);
    CHECK(output.product_depths == 40);
    CHECK(product.kernels + expansion.kernels + attention.kernels + output.kernels == 9);
    CHECK(llama::forward(t, pairs).operations() == doctest::Approx(t * 2 * (24 * 48 + 24 * 24 + 24 * 80 + 40 * 24) + pairs * 4 * 24));
}

TEST_CASE("work: a block backward") {
    constexpr ls::work w = llama::backward(t, pairs);
    CHECK(w.products == 2 * t * 2 * (24 * 48 + 24 * 24 + 24 * 80 + 40 * 24));
    CHECK(w.attention_backward == doctest::Approx(pairs * 10 * 24));
    CHECK(w.backward_queries == t);
    CHECK(w.product_depths == 48 + 24 + 80 + 24);  // back to the inputs
    // Two norms made again, two norms back onto the stream's gradient, rotation back, activation again and back.
    CHECK(w.pass_bytes == doctest::Approx(t * 2 * (2 * 2 * 24 + 2 * 4 * 24 + 40 + 80 + 80 + 40) + t * (2 * 36 * 2 + 6 * 4)));
    // Of each product both gradients: operands and results twice, and weights, and their gradients in float, which are added to.
    CHECK(w.product_bytes == doctest::Approx(2 * t * 2 * (24 + 48 + 24 + 24 + 24 + 80 + 40 + 24) + (2 + 8) * (24 * 48 + 24 * 24 + 24 * 80 + 40 * 24)));

    constexpr ls::work biased = gpt2::backward(t, pairs);
    CHECK(biased.products == 2 * t * 2 * (24 * 72 + 24 * 24 + 24 * 33 + 33 * 24));
    CHECK(biased.pass_bytes == doctest::Approx(t * 4 * (2 * 2 * 24 + 2 * 4 * 24 + 4 * 33 + (72 + 24 + 33 + 24))));
}

TEST_CASE("work: embedding, head and loss") {
    constexpr ls::work w = llama::ends(t);
    CHECK(w.products == 3 * 2 * t * 24 * 61);
    // Logits as floats, their gradients; norm, and back; embedding, its gradient into 61 rows; angles. Three chunks of 50 tokens.
    CHECK(w.pass_bytes == doctest::Approx(t * (61 * (4 + 2) + 2 * 24 * 2 + 3 * 24 * 2 + 24 * (2 + 2) + 24 * 2 + 6 * 4) + 2 * 61 * 24 * 4 +
                                          3 * 24 * 61 * (2 * 2 + 2 * 4)));
    CHECK(w.product_bytes == doctest::Approx(t * (2 * 24 + 4 * 61 + 2 * 2 * (24 + 61))));
    CHECK(w.product_depths == 3 * (24 + 61));
    // By chunks of 60 tokens there are five of the loss, of 50, 10, 50, 10 and 11 tokens.
    CHECK(uneven::ends(t).product_depths == 5 * (24 + 61));
    constexpr ls::work learned = gpt2::ends(t);
    CHECK(learned.pass_bytes == doctest::Approx(t * 4 * (2 * 61 + 2 * 24 + 3 * 24 + 2 * 24 + 24 + 3 * 24 + 24) + 2 * 61 * 24 * 4 + 3 * 24 * 61 * 4 * 4));
}

TEST_CASE("work: two streams, QK-norm, dropout, by chunks of tokens") {
    constexpr ls::work w = paired::forward(t, pairs);
    // Streams of four bytes: two norms; heads normed and rotated in one pass; a branch of its own joins twice; activation.
    CHECK(w.pass_bytes == doctest::Approx(t * (2 * 24 * (4 + 2) + 2 * 36 * 2 + 6 * 4 + 2 * 24 * (2 * 4 + 2) + (80 + 40) * 2)));
    CHECK(paired::handed_on(t).pass_bytes == t * 2 * 24 * 4);
    CHECK(llama::handed_on(t).pass_bytes == 0);
    // Each of three chunks reads the weights, and starts kernels of its own; bytes of part of a chunk are part of a chunk's.
    CHECK(w.product_bytes == doctest::Approx(t * 2 * (24 + 48 + 24 + 24 + 24 + 80 + 40 + 24) + t / 50 * 2 * (24 * 48 + 24 * 24 + 24 * 80 + 40 * 24)));
    CHECK(w.product_depths == 3 * (24 + 24 + 24 + 40));
    // Norm, projection, out, joined; heads, attention; norm, in; activation, out, joined.
    CHECK(w.kernels == 3 * 4 + 2 + 3 * 2 + 3 * 3);
    constexpr ls::work back = paired::backward(t, pairs);
    CHECK(back.pass_bytes == doctest::Approx(t * (2 * 24 * (4 + 2) + 2 * 24 * (4 + 3 * 2) + 2 * 36 * 2 + 6 * 4 + 3 * 36 * 2 + 6 * 4 +
                                                  (40 + 80 + 80 + 40) * 2 + 2 * 2 * 24 * 2)));
}

TEST_CASE("work: by groups of heads") {
    constexpr ls::work w = grouped::forward(t, pairs), whole = paired::forward(t, pairs);
    CHECK(w.operations() == doctest::Approx(whole.operations()));
    // Another norm, another reading of angles, another joining; and the projection's weights are read and written on their way together.
    CHECK(w.pass_bytes == doctest::Approx(whole.pass_bytes + t * (24 * (4 + 2) + 6 * 4 + 24 * (2 * 4 + 2)) + 2 * 2 * 24 * 48));
    CHECK(w.product_bytes == doctest::Approx(whole.product_bytes + t * 2 * (24 + 24)));  // norms are read, and branches written, twice
    CHECK(w.product_depths == 3 * (2 * (24 + 12) + 24 + 40));
    CHECK(w.kernels == 2 * (3 * 4 + 2) + 2 + 3 * 2 + 3 * 3);
    constexpr ls::work back = grouped::backward(t, pairs), whole_back = paired::backward(t, pairs);
    CHECK(back.operations() == doctest::Approx(whole_back.operations()));
    // A norm made again and one back, angles twice; weights gathered, and their gradients zeroed, read and added to the layer's.
    CHECK(back.pass_bytes == doctest::Approx(whole_back.pass_bytes + t * (24 * (4 + 2) + 24 * (4 + 3 * 2) + 2 * 6 * 4) + 24 * 48 * (2 * 2 + 4 * 4)));
}

TEST_CASE("work: sums and multiples") {
    constexpr ls::work one{1, 2, 3, 4, 5, 6, 7, 8, 9}, three = 3.0 * one, four = one + three;
    CHECK(four.products == 4);
    CHECK(four.product_bytes == 8);
    CHECK(four.product_depths == 12);
    CHECK(four.attention_forward == 16);
    CHECK(four.attention_backward == 20);
    CHECK(four.forward_queries == 24);
    CHECK(four.backward_queries == 28);
    CHECK(four.pass_bytes == 32);
    CHECK(four.kernels == 36);
    CHECK(four.operations() == 40);
}
