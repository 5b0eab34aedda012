// SPDX-License-Identifier: Apache-2.0
//
// Whole blocks in double over random layouts of documents: the gradients of the input and of all parameters against central
// differences of what the block does, at relative 1e-6; the backward twice, to the bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <utility>
#include <vector>

#include <longspan/layer/block.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

#include "../host/buffers.hpp"
#include "../sanitized.hpp"
#include "bench.hpp"

namespace layers {

namespace {

constexpr decoder_shape rich{.layers = 2, .width = 8, .heads = 4, .key_value_heads = 2, .head_width = 4, .hidden = 5, .vocabulary = 2, .context = 1,
                             .qk_norm = true, .sink = true, .soft_cap = 5, .dropout = 0.1, .attention_dropout = 0.15, .stochastic_depth = 0.3,
                             .token_chunk = 13, .head_group = 1};
constexpr decoder_shape plain{.layers = 2, .width = 9, .heads = 3, .hidden = 7, .vocabulary = 2, .context = 1, .norm = norm_kind::layer,
                              .mlp = mlp_kind::gelu_tanh, .positions = position_kind::alibi, .bias = true, .head_group = 1};
constexpr decoder_shape llama{.layers = 2, .width = 8, .heads = 4, .key_value_heads = 2, .hidden = 5, .vocabulary = 2, .context = 1};

template <decoder_shape Shape, auto Pattern>
struct checked_block {
    using model = model_of<Shape, uniform_precision<double>>;
    using pattern = std::remove_cvref_t<decltype(Pattern)>;
    using block = decoder_block<model, pattern>;
    static constexpr index layer = 1;

    bench<model>& at;
    matrix_view<const double> x_of(const std::vector<double>& x) const { return {x.data(), at.context.tokens, Shape.width}; }

    /// Σ y · weight.
    double forward(const std::vector<double>& x, const std::vector<double>& bucket, const std::vector<double>& weight) const {
        std::vector<double> y(x.size());
        matrix_view<double> out(y.data(), at.context.tokens, Shape.width);
        typename block::saved kept(at.memory, at.context.tokens);
        block::forward(at.context, layer, bucket.data(), {}, x_of(x), &out, kept);
        return dot(y, weight);
    }
    struct gradients {
        std::vector<double> x, bucket;
        bool operator==(const gradients&) const = default;
    };
    gradients backward(const std::vector<double>& x, const std::vector<double>& bucket, const std::vector<double>& weight) const {
        gradients g{weight, std::vector<double>(bucket.size())};
        typename block::saved kept(at.memory, at.context.tokens);
        block::forward(at.context, layer, bucket.data(), {}, x_of(x), nullptr, kept);
        block::backward(at.context, layer, bucket.data(), g.bucket.data(), {}, x_of(x), kept, {g.x.data(), at.context.tokens, Shape.width});
        return g;
    }
};

template <decoder_shape Shape, auto Pattern>
void sweep(std::uint64_t seed) {
    using checked = checked_block<Shape, Pattern>;
    const test::threads_restored restore;
    test::use_threads(1);  // these layers are too small to share
    std::mt19937_64 random(seed);
    constexpr index edges[] = {1, 2, 15, 16, 17, 31, 32, 33, 63, 64, 65, 95, 96, 97, 127, 128, 129, 191, 192, 193, 195};
    double worst = 0;
    index bits_differ = 0, slack = 0;
    for (int round = 0; round < 210; ++round) {
        // Attention's tiles are 96 queries and 192 keys.
        const index tokens = round < 21 ? edges[round] : 1 + static_cast<index>(random() % 120);
        bench<typename checked::model> at(random_pieces(tokens, random), tokens, random());
        const checked block{at};
        const std::vector<double> x = normals(tokens * Shape.width, random), weight = normals(tokens * Shape.width, random);
        std::vector<double> bucket(static_cast<std::size_t>(checked::block::size));
        checked::block::for_each_parameter([&](const char*, const parameter& p, index offset) {
            for (index i = 0; i < p.size(); ++i) {
                bucket[static_cast<std::size_t>(offset + i)] = (p.start == initial::ones) + std::normal_distribution<double>(0, 0.3)(random);
            }
        });
        const auto g = block.backward(x, bucket, weight);
        bits_differ += !(g == block.backward(x, bucket, weight));
        slack += at.memory.used() != 0 || !at.memory.in_order();
        const auto check = [&](double expected, auto&& f) {
            worst = std::max(worst, std::abs(derivative(f) - expected) / std::abs(expected));
        };
        const std::vector<double> along_x = direction_for(g.x, random);
        if (!test::sanitized || round % 2 == 0) check(dot(along_x, g.x), [&](double step) { return block.forward(moved(x, along_x, step), bucket, weight); });
        const std::vector<double> along = direction_for(g.bucket, random);
        if (!test::sanitized || round % 2 == 1) check(dot(along, g.bucket), [&](double step) { return block.forward(x, moved(bucket, along, step), weight); });
    }
    CHECK(worst < 1e-6);
    CHECK(bits_differ == 0);
    CHECK(slack == 0);
    MESSAGE("worst relative error of a block's gradient: " << worst);
}

}  // namespace

TEST_CASE("block: gradients of 210 layouts, every option of attention and dropout") { sweep<rich, causal & (window<20> | first<3>)>(1); }
TEST_CASE("block: gradients of 210 layouts, LayerNorm, GELU, biases, ALiBi, every key") { sweep<plain, full>(2); }

TEST_CASE("block: gradients of 210 layouts, Llama's choices") { sweep<llama, causal>(3); }

namespace {

/// A block that makes again what is worth less than From writes just that, and the same bits: kept tensors stay as they are even
/// where, from another input, they would come out otherwise.
template <decoder_shape Shape, cost From>
void makes_the_rest_again() {
    using checked = checked_block<Shape, causal>;
    using block = typename checked::block;
    std::mt19937_64 random(9);
    constexpr index tokens = 50;
    bench<typename checked::model> at(random_pieces(tokens, random), tokens, 8);
    const checked here{at};
    const std::vector<double> bucket = normals(block::size, random), x = normals(tokens * Shape.width, random);
    typename block::saved kept(at.memory, tokens);
    const auto forward = [&]<cost Of>(const std::vector<double>& from) {
        block::template forward<Of>(at.context, 1, bucket.data(), {}, here.x_of(from), nullptr, kept);
    };
    // Of each tensor its bits, and what it is worth.
    const auto look = [&] {
        std::vector<std::pair<cost, std::vector<double>>> all;
        const auto add = [&](cost worth, auto view) { all.emplace_back(worth, std::vector(view.data, view.data + view.rows * view.columns)); };
        add(cost::product, kept.attended.template get<"qkv">());
        add(cost::attention, kept.attended.template get<"attended">());
        add(cost::attention, kept.attended.template get<"log-sum-exp">());
        add(cost::product, kept.middle.template get<"stream between branches">());
        add(cost::expansion, kept.expanded.template get<"pre-activation">());
        return all;
    };
    forward.template operator()<cost::output>(x);
    const auto first = look();
    const auto same = [&](auto&& wanted) {
        const auto now = look();
        for (std::size_t i = 0; i < now.size(); ++i) CHECK((now[i].second == first[i].second) == wanted(first[i].first));
    };
    forward.template operator()<From>(moved(x, x, 0.5));
    // With another x the rest is another, but that which only kept tensors go into.
    same([](cost worth) { return worth >= From || (worth == cost::expansion && From == cost::product); });
    forward.template operator()<From>(x);
    same([](cost) { return true; });
}

}  // namespace

TEST_CASE("block: what is kept is read, the rest made again to the bit") {
    makes_the_rest_again<rich, cost::product>();
    makes_the_rest_again<rich, cost::attention>();
    makes_the_rest_again<llama, cost::attention>();
    makes_the_rest_again<plain, cost::attention>();
}

TEST_CASE("block: tables lie end to end, and each parameter at a multiple of 128") {
    using block = block_tables<model_of<plain, uniform_precision<double>>>;
    index next = 0, count = 0;
    block::for_each_parameter([&](const char*, const parameter& p, index offset) {
        CHECK(offset == next);
        CHECK(offset % parameter_alignment == 0);
        next = offset + round_up(p.size(), parameter_alignment);
        count += p.size();
    });
    CHECK(next == block::size);
    CHECK(count == block::parameter_count);
    CHECK(block::parameter_count == 9 * 27 + 27 + 9 * 9 + 9 + 2 * 2 * 9 + 2 * 7 * 9 + 7 + 9);
}

}  // namespace layers
