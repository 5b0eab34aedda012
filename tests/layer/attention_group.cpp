// SPDX-License-Identifier: Apache-2.0
//
// Attention by groups of heads and chunks of tokens, against all heads and tokens at once, in double, over random layouts of documents:
// every head's output to the bit, with its own slope, sink and draws; the branch and all gradients within rounding. That gradients are
// right, and reversed to the bit, is block.cpp's and two_stream_block.cpp's to say.
#include <doctest/doctest.h>

#include <cstring>
#include <span>

#include <longspan/layer/attention.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

#include "../host/buffers.hpp"
#include "bench.hpp"

namespace layers {

namespace {

constexpr decoder_shape optioned{.layers = 2, .width = 12, .heads = 4, .key_value_heads = 2, .head_width = 6, .bias = true, .qk_norm = true,
                                 .sink = true, .soft_cap = 4, .dropout = 0.1, .attention_dropout = 0.2, .stochastic_depth = 0.3, .token_chunk = 19,
                                 .head_group = 1};
constexpr decoder_shape paired{.layers = 2, .width = 12, .heads = 4, .key_value_heads = 2, .head_width = 6, .residual = residual_kind::two_streams,
                               .dropout = 0.1, .token_chunk = 19, .head_group = 1};
constexpr decoder_shape sloped{.layers = 2, .width = 12, .heads = 8, .key_value_heads = 4, .head_width = 3, .norm = norm_kind::layer,
                               .positions = position_kind::alibi, .sink = true, .token_chunk = 32, .head_group = 2};

constexpr decoder_shape at_once(decoder_shape s) {
    s.token_chunk = 0, s.head_group = 0;
    return s;
}
template <decoder_shape Shape>
using model = model_of<Shape, std::conditional_t<Shape.streams() == 2, fixed_residual<uniform_precision<double>>, uniform_precision<double>>>;

void poison(void*, const char*, std::span<std::byte> region) { std::memset(region.data(), 0xff, region.size()); }

/// What a branch gives: the stream, gradients, and attention's output and log-sum-exp with heads side by side.
struct results {
    std::vector<double> y, dx, parameters, attended, log_sums;
};

template <decoder_shape Shape>
results branch(const std::vector<piece>& pieces, index tokens, const std::vector<double>& x, const std::vector<double>& bucket,
               const std::vector<double>& dy) {
    using layer = attention_layer<model<Shape>, pattern_of<causal & (window<30> | first<2>)>>;
    using stream = typename model<Shape>::template storage<role::residual>;
    bench<model<Shape>> at(pieces, tokens, 7);
    at.memory.observe({nullptr, poison, poison});
    std::vector<stream> in, out(x.size());
    for (const double v : x) {
        if constexpr (Shape.streams() == 2) in.push_back({static_cast<std::int64_t>(std::rint(v * stream::scale))});
        else in.push_back(v);
    }
    // Of two streams the gradient is of one and added to the other; of one both are the same.
    results r{{}, Shape.streams() == 2 ? std::vector<double>(x.size(), 0.5) : dy, std::vector<double>(bucket.size()), {}, {}};
    const matrix_view<const stream> from(in.data(), tokens, Shape.width);
    matrix_view<stream> to(out.data(), tokens, Shape.width);
    const matrix_view<double> dx(r.dx.data(), tokens, Shape.width);
    const typename layer::weights w(bucket.data());
    const typename layer::gradients g(r.parameters.data());
    {
        const typename layer::saved kept(at.memory, tokens);
        layer::forward_onto(at.context, 1, w, {}, from, from, &to, kept);
        layer::backward(at.context, 1, w, g, {}, from, kept,
                        Shape.streams() == 2 ? matrix_view<const double>(dy.data(), tokens, Shape.width) : matrix_view<const double>(dx), dx);
        for (index t = 0; t < tokens; ++t) {
            for (index i = 0; i < layer::groups; ++i) {
                const auto attended = kept.template get<"attended">(i), sums = kept.template get<"log-sum-exp">(i);
                r.attended.insert(r.attended.end(), attended.row(t), attended.row(t) + attended.columns);
                r.log_sums.insert(r.log_sums.end(), sums.row(t), sums.row(t) + sums.columns);
            }
        }
    }
    CHECK(at.memory.used() == 0);
    CHECK(at.memory.in_order());
    for (const stream v : out) r.y.push_back(static_cast<double>(v));
    return r;
}

double difference(const std::vector<double>& a, const std::vector<double>& b) {
    double most = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); ++i) {
        const double d = std::abs(a[i] - b[i]);
        if (!(d <= most)) most = d;
        size = std::max(size, std::abs(b[i]));
    }
    return size > 0 ? most / size : most;  // a document whose branch is skipped leaves nothing
}

template <decoder_shape Shape>
void groups_are_all_heads() {
    const test::threads_restored restore;
    test::use_threads(1);  // these layers are too small to share
    std::mt19937_64 random(3);
    for (const index tokens : {1, 2, 18, 19, 20, 31, 32, 33, 77, 101}) {
        const std::vector<piece> pieces = random_pieces(tokens, random);
        const std::vector<double> x = normals(tokens * Shape.width, random), dy = normals(tokens * Shape.width, random),
                                  bucket = normals(table_size<typename attention_tables<model<Shape>>::parameter_table>(), random, 0.5);
        const results ours = branch<Shape>(pieces, tokens, x, bucket, dy), expected = branch<at_once(Shape)>(pieces, tokens, x, bucket, dy);
        CAPTURE(tokens);
        CHECK(ours.attended == expected.attended);
        CHECK(ours.log_sums == expected.log_sums);
        CHECK(difference(ours.y, expected.y) < 1e-9);
        CHECK(difference(ours.dx, expected.dx) < 1e-9);
        CHECK(difference(ours.parameters, expected.parameters) < 1e-9);
    }
}

}  // namespace

TEST_CASE("attention_group: groups of one key/value head are all heads at once: QK-norm, biases, sinks, dropout everywhere") {
    groups_are_all_heads<optioned>();
}
TEST_CASE("attention_group: groups of two key/value heads are all heads at once: ALiBi, sinks, LayerNorm") { groups_are_all_heads<sloped>(); }
TEST_CASE("attention_group: groups of one key/value head are all heads at once: two streams, queries and keys rotated where they lie") {
    groups_are_all_heads<paired>();
}

TEST_CASE("attention_group: in passing there is one group, and a chunk of what is made token by token") {
    constexpr decoder_shape wide{.layers = 1, .width = 64, .heads = 8, .key_value_heads = 4, .residual = residual_kind::two_streams,
                                 .token_chunk = 10, .head_group = 1};
    using one = attention_layer<model_of<wide, fixed_residual<uniform_precision<float>>>, pattern_of<causal>>;
    constexpr index tokens = 100, group = 8 * (2 + 2), saved = 4 * tokens * (1 + group + 8 * 2 + 2);
    static_assert(one::groups == 4 && one::group::projected == group && one::group::heads == 2);
    CHECK(layout_of<one::precision, one::saved_table>("", tokens).peak(1) == 4 * saved - 3 * 4 * tokens);
    const bytes gathered = 4 * group * 64, chunk = 4 * 10 * 64;
    CHECK(one::add_scratch(tokens).peak(1) == saved + gathered + chunk);
    const bytes d_group = 4 * tokens * group;
    CHECK(one::reverse_scratch<host::cpu>(tokens).peak(1) == saved + d_group + std::max(4 * tokens * 16, 2 * gathered + chunk));
}

}  // namespace layers
