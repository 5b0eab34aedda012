// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>

#include <longspan/layer/normalisation.hpp>
#include <longspan/model/shape.hpp>

#include "bench.hpp"

namespace layers {

namespace {

/// Parameters and statistics as a layer holds them.
template <norm_kind Kind>
struct holder {
    static constexpr decoder_shape shape{.layers = 1, .width = 19, .heads = 1, .norm = Kind};
    using model = model_of<shape, uniform_precision<double>>;
    using norm = normalisation<model>;
    struct parameter_table {
        static constexpr std::array list{norm::weight, norm::bias};
    };
    struct saved_table {
        static constexpr std::array list{norm::mean, norm::rstd};
    };
};

template <norm_kind Kind>
void check_values_and_gradients() {
    using h = holder<Kind>;
    using norm = typename h::norm;
    constexpr index tokens = 13, width = 19;
    std::mt19937_64 random(1);
    bench<typename h::model> at({{0, 0, 0}}, tokens, 1);
    const std::vector<double> x = normals(tokens * width, random, 3), up = normals(tokens * width, random);
    std::vector<double> w = normals(table_size<typename h::parameter_table>(), random);
    tensors<uniform_precision<double>, typename h::saved_table> saved(at.memory, tokens);
    const auto forward = [&](const std::vector<double>& in, const std::vector<double>& bucket) {
        std::vector<double> y(in.size());
        norm::forward(at.context, parameters<typename h::parameter_table, const double>(bucket.data()), {in.data(), tokens, width},
                      {y.data(), tokens, width}, saved);
        return y;
    };
    const std::vector<double> y = forward(x, w);
    double worst = 0;
    for (index t = 0; t < tokens; ++t) {
        double mean = 0, square = 0;
        for (index c = 0; c < width; ++c) mean += x[static_cast<std::size_t>(t * width + c)] / width;
        if (Kind == norm_kind::rms) mean = 0;
        for (index c = 0; c < width; ++c) square += std::pow(x[static_cast<std::size_t>(t * width + c)] - mean, 2) / width;
        for (index c = 0; c < width; ++c) {
            const auto i = static_cast<std::size_t>(t * width + c), column = static_cast<std::size_t>(c);
            const double bias = Kind == norm_kind::layer ? w[128 + column] : 0;
            worst = std::max(worst, std::abs(y[i] - ((x[i] - mean) / std::sqrt(square + 1e-5) * w[column] + bias)));
        }
    }
    CHECK(worst < 1e-13);

    std::vector<double> dx(x.size(), 0.25), dw(w.size(), 0.5);  // both are added to
    norm::template backward<true>(at.context, parameters<typename h::parameter_table, const double>(w.data()),
                                  parameters<typename h::parameter_table, double>(dw.data()), {x.data(), tokens, width},
                                  {up.data(), tokens, width}, saved, {dx.data(), tokens, width});
    for (double& v : dx) v -= 0.25;
    for (double& v : dw) v -= 0.5;
    const auto along_x = direction_for(dx, random), along_w = direction_for(dw, random);
    CHECK(derivative([&](double s) { return dot(forward(moved(x, along_x, s), w), up); }) == doctest::Approx(dot(along_x, dx)).epsilon(1e-6));
    CHECK(derivative([&](double s) { return dot(forward(x, moved(w, along_w, s)), up); }) == doctest::Approx(dot(along_w, dw)).epsilon(1e-6));
}

}  // namespace

TEST_CASE("normalisation: RMSNorm's values and gradients") { check_values_and_gradients<norm_kind::rms>(); }
TEST_CASE("normalisation: LayerNorm's values and gradients") { check_values_and_gradients<norm_kind::layer>(); }

TEST_CASE("normalisation: the scale starts at one, and only a centred norm has a bias and a mean") {
    using rms = holder<norm_kind::rms>::norm;
    using centred = holder<norm_kind::layer>::norm;
    CHECK(rms::weight.start == initial::ones);
    CHECK(rms::bias.size() == 0);
    CHECK(rms::mean.columns == 0);
    CHECK(centred::bias.size() == 19);
    CHECK(centred::mean.columns == 1);
    CHECK(!centred::weight.decays);
}

}  // namespace layers
