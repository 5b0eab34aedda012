// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/layer/mlp.hpp>
#include <longspan/model/shape.hpp>

#include "bench.hpp"

namespace layers {

namespace {

constexpr index tokens = 21, width = 7, hidden = 9;

template <mlp_kind Kind, bool Bias, index Chunk = 0>
void check() {
    constexpr decoder_shape shape{.layers = 2, .width = width, .heads = 1, .hidden = hidden, .mlp = Kind, .bias = Bias, .token_chunk = Chunk};
    using model = model_of<shape, uniform_precision<double>>;
    using mlp = mlp_layer<model>;
    std::mt19937_64 random(3);
    bench<model> at({{0, 0, 0}}, tokens, 1);
    const std::vector<double> x = normals(tokens * width, random), up = normals(tokens * width, random),
                              bucket = normals(table_size<typename mlp::parameter_table>(), random, 0.7);
    const auto forward = [&](const std::vector<double>& in, const std::vector<double>& at_bucket) {
        std::vector<double> y(in.size());
        matrix_view<double> out(y.data(), tokens, width);
        const typename mlp::saved kept(at.memory, tokens);
        mlp::forward(at.context, 0, typename mlp::weights(at_bucket.data()), {in.data(), tokens, width}, &out, kept);
        return y;
    };
    const std::vector<double> y = forward(x, bucket);
    const typename mlp::weights w(bucket.data());
    const auto w1 = w.template get<"in.weight">(), w2 = w.template get<"out.weight">();
    const auto bias = [](auto b, index i) { return Bias ? b(0, i) : 0.0; };
    double worst = 0;
    for (index t = 0; t < tokens; ++t) {
        const double* const row = x.data() + t * width;
        double square = 0, first[2 * hidden], activated[hidden];
        for (index c = 0; c < width; ++c) square += row[c] * row[c] / width;
        for (index o = 0; o < mlp::first; ++o) {
            first[o] = bias(w.template get<"in.bias">(), o);
            for (index c = 0; c < width; ++c) first[o] += row[c] / std::sqrt(square + 1e-5) * w.template get<"norm.weight">()(0, c) * w1(o, c);
        }
        for (index f = 0; f < hidden; ++f) {
            const double z = first[f];
            if (Kind == mlp_kind::silu_gated) activated[f] = z / (1 + std::exp(-z)) * first[hidden + f];
            if (Kind == mlp_kind::gelu) activated[f] = 0.5 * z * (1 + std::erf(z / std::sqrt(2.0)));
            if (Kind == mlp_kind::gelu_tanh) activated[f] = 0.5 * z * (1 + std::tanh(0.79788456080286535588 * (z + 0.044715 * z * z * z)));
        }
        for (index c = 0; c < width; ++c) {
            double expected = row[c] + bias(w.template get<"out.bias">(), c);
            for (index f = 0; f < hidden; ++f) expected += activated[f] * w2(c, f);
            worst = std::max(worst, std::abs(expected - y[static_cast<std::size_t>(t * width + c)]));
        }
    }
    CHECK(worst < 1e-12);

    std::vector<double> dx = up, g(bucket.size());
    {
        const typename mlp::saved kept(at.memory, tokens);
        mlp::forward(at.context, 0, w, {x.data(), tokens, width}, nullptr, kept);
        mlp::backward(at.context, 0, w, typename mlp::gradients(g.data()), {x.data(), tokens, width}, kept, {dx.data(), tokens, width});
    }
    const auto along_x = direction_for(dx, random), along = direction_for(g, random);
    CHECK(derivative([&](double s) { return dot(forward(moved(x, along_x, s), bucket), up); }) == doctest::Approx(dot(along_x, dx)).epsilon(1e-6));
    CHECK(derivative([&](double s) { return dot(forward(x, moved(bucket, along, s)), up); }) == doctest::Approx(dot(along, g)).epsilon(1e-6));
    CHECK(at.memory.used() == 0);
}

}  // namespace

TEST_CASE("mlp: SwiGLU against plain loops, and its gradients") { check<mlp_kind::silu_gated, false>(); }
TEST_CASE("mlp: GELU with biases against plain loops, and its gradients") { check<mlp_kind::gelu, true>(); }
TEST_CASE("mlp: GELU's tanh form against plain loops, and its gradients; 8 of 21 tokens at a time") { check<mlp_kind::gelu_tanh, false, 8>(); }

}  // namespace layers
