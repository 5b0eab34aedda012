// SPDX-License-Identifier: Apache-2.0
//
// Blocks of two streams in double over random layouts of documents: the gradients of both inputs and of all parameters against central
// differences, halves in place against the block at once, and the streams reversed, to the bit.
#include <doctest/doctest.h>

#include <algorithm>
#include <vector>

#include <longspan/layer/two_stream_block.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/band.hpp>

#include "../host/buffers.hpp"
#include "bench.hpp"

namespace layers {

namespace {

constexpr decoder_shape shape{.layers = 2, .width = 8, .heads = 4, .key_value_heads = 2, .head_width = 4, .hidden = 5, .vocabulary = 2, .context = 1,
                              .residual = residual_kind::two_streams, .qk_norm = true, .dropout = 0.1, .stochastic_depth = 0.3, .token_chunk = 11,
                              .head_group = 1};
using model = model_of<shape, fixed_residual<uniform_precision<double>>>;
using block = two_stream_block<model, std::remove_cvref_t<decltype(causal)>>;
constexpr index layer = 1, width = shape.width;

/// Both streams side by side, as values and as what a block reads.
struct both_streams {
    std::vector<fixed64> units;
    index tokens;
    explicit both_streams(const std::vector<double>& values) : tokens(static_cast<index>(values.size()) / (2 * width)) {
        for (const double v : values) units.push_back({static_cast<std::int64_t>(std::rint(v * fixed64::scale))});
    }
    [[nodiscard]] block::streams view() { return block::streams::of({units.data(), tokens, 2 * width}); }
};

struct checked {
    bench<model>& at;
    const std::vector<double>& bucket;

    both_streams forward(both_streams x) const {
        both_streams y(std::vector<double>(x.units.size()));
        block::streams out = y.view();
        block::saved kept(at.memory, at.context.tokens);
        block::forward(at.context, layer, bucket.data(), {}, x.view(), &out, kept);
        return y;
    }
    /// Σ y · weight.
    double loss(const std::vector<double>& x, const std::vector<double>& weight) const {
        double sum = 0;
        const both_streams y = forward(both_streams(x));
        for (std::size_t i = 0; i < weight.size(); ++i) sum += static_cast<double>(y.units[i]) * weight[i];
        return sum;
    }
};

}  // namespace

TEST_CASE("two_stream_block: gradients of 60 layouts; halves in place are the block, and lead back to its inputs to the bit") {
    const test::threads_restored restore;
    test::use_threads(1);  // these layers are too small to share
    std::mt19937_64 random(4);
    double worst = 0;
    for (int round = 0; round < 60; ++round) {
        const index tokens = 1 + static_cast<index>(random() % 70);
        bench<model> at(random_pieces(tokens, random), tokens, random());
        std::vector<double> x = normals(tokens * 2 * width, random);
        const std::vector<double> weight = normals(tokens * 2 * width, random);
        std::vector<double> bucket(static_cast<std::size_t>(block::size));
        block::for_each_parameter([&](const char*, const parameter& p, index offset) {
            for (index i = 0; i < p.size(); ++i)
                bucket[static_cast<std::size_t>(offset + i)] = (p.start == initial::ones) + std::normal_distribution<double>(0, 0.3)(random);
        });
        const checked here{at, bucket};
        both_streams in(x);
        const both_streams before = in, y = here.forward(in);

        std::vector<double> dx = weight, d_bucket(bucket.size()), dx_reversed = weight, d_reversed(bucket.size());
        const auto pair_of = [&](std::vector<double>& d) { return block::gradients_pair::of({d.data(), tokens, 2 * width}); };
        {
            block::saved kept(at.memory, tokens);
            block::forward(at.context, layer, bucket.data(), {}, in.view(), nullptr, kept);
            block::backward(at.context, layer, bucket.data(), d_bucket.data(), {}, in.view(), kept, pair_of(dx));
        }
        block::add_half<block_half::attention>(at.context, layer, bucket.data(), {}, in.view());
        block::add_half<block_half::mlp>(at.context, layer, bucket.data(), {}, in.view());
        REQUIRE(in.units == y.units);
        block::reverse_half<block_half::mlp>(at.context, layer, bucket.data(), d_reversed.data(), {}, in.view(), pair_of(dx_reversed));
        block::reverse_half<block_half::attention>(at.context, layer, bucket.data(), d_reversed.data(), {}, in.view(), pair_of(dx_reversed));
        REQUIRE(in.units == before.units);
        REQUIRE(dx_reversed == dx);
        REQUIRE(d_reversed == d_bucket);
        REQUIRE(at.memory.used() == 0);

        const auto check = [&](double expected, auto&& f) { worst = std::max(worst, std::abs(derivative(f) - expected) / std::abs(expected)); };
        const std::vector<double> along_x = direction_for(dx, random), along = direction_for(d_bucket, random);
        check(dot(along_x, dx), [&](double step) { return here.loss(moved(x, along_x, step), weight); });
        check(dot(along, d_bucket), [&](double step) {
            const std::vector<double> there = moved(bucket, along, step);
            return checked{at, there}.loss(x, weight);
        });
    }
    CHECK(worst < 1e-6);
    MESSAGE("worst relative error of a block's gradient: " << worst);
}

}  // namespace layers
