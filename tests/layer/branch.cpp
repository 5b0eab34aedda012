// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/layer/branch.hpp>
#include <longspan/model/shape.hpp>

#include "bench.hpp"

namespace layers {

namespace {

constexpr index tokens = 40, in = 6, width = 10;

template <decoder_shape Shape>
struct branch_of {
    using model = model_of<Shape, uniform_precision<double>>;
    using branch = residual_branch<model>;
    bench<model> at{{{5, 0, 0}, {6, 0, 11}, {7, 0, 12}, {8, 0, 30}, {-1, 0, 36}}, tokens, 9};
    std::vector<double> w, b;
    explicit branch_of(std::mt19937_64& random) : w(normals(width * in, random)), b(normals(width, random)) {}

    std::vector<double> forward(index layer, const std::vector<double>& x, const std::vector<double>& z) {
        std::vector<double> scratch(x.size()), y(x.size());
        branch::forward(at.context, layer, draw_site::mlp_branch, 0, {x.data(), tokens, width}, {z.data(), tokens, in},
                        matrix_view<const double>(w.data(), width, in), b.data(), {scratch.data(), tokens, width}, {y.data(), tokens, width});
        return y;
    }
    std::vector<double> backward(index layer, const std::vector<double>& dy) {
        std::vector<double> scratch(dy.size());
        const auto d = branch::backward(at.context, layer, draw_site::mlp_branch, 0, {dy.data(), tokens, width}, {scratch.data(), tokens, width});
        return {d.data, d.data + d.size()};
    }
};

constexpr decoder_shape whole{.layers = 4, .width = width, .heads = 1};
constexpr decoder_shape thin{.layers = 4, .width = width, .heads = 1, .dropout = 0.25, .stochastic_depth = 0.6};

}  // namespace

TEST_CASE("branch: the chance to be skipped grows from 0 at the first layer to the shape's at the last") {
    using branch = branch_of<thin>::branch;
    CHECK(branch::skip_chance(0) == 0);
    CHECK(branch::skip_chance(1) == doctest::Approx(0.2));
    CHECK(branch::skip_chance(3) == doctest::Approx(0.6));
    static_assert(branch::thinned && !branch_of<whole>::branch::thinned);
}

TEST_CASE("branch: without thinning the product joins the stream as it is") {
    std::mt19937_64 random(1);
    branch_of<whole> one(random);
    const auto x = normals(tokens * width, random), z = normals(tokens * in, random);
    const auto y = one.forward(2, x, z);
    double worst = 0;
    for (index t = 0; t < tokens; ++t) {
        for (index c = 0; c < width; ++c) {
            double expected = x[static_cast<std::size_t>(t * width + c)] + one.b[static_cast<std::size_t>(c)];
            for (index i = 0; i < in; ++i) expected += one.w[static_cast<std::size_t>(c * in + i)] * z[static_cast<std::size_t>(t * in + i)];
            worst = std::max(worst, std::abs(expected - y[static_cast<std::size_t>(t * width + c)]));
        }
    }
    CHECK(worst < 1e-13);
    CHECK(one.backward(2, x) == x);
}

TEST_CASE("branch: thinning drops elements and whole documents, forward and backward the same ones") {
    std::mt19937_64 random(2);
    branch_of<thin> one(random);
    const auto x = normals(tokens * width, random), z = normals(tokens * in, random), ones = std::vector<double>(x.size(), 1.0);
    const index ends[] = {0, 11, 12, 30, 36};
    index skipped = 0, dropped = 0, kept = 0;
    for (std::uint64_t step = 0; step < 40; ++step) {
        one.at.keys.step = step;
        const auto y = one.forward(3, x, z), factor = one.backward(3, ones);
        for (int d = 0; d < 4; ++d) {
            index moved = 0;
            for (index i = ends[d] * width; i < ends[d + 1] * width; ++i) {
                const auto at = static_cast<std::size_t>(i);
                CHECK_FALSE((y[at] != x[at]) != (factor[at] != 0));
                moved += y[at] != x[at];
            }
            const index all = (ends[d + 1] - ends[d]) * width;
            if (moved == 0) ++skipped;
            else kept += moved, dropped += all - moved;
        }
    }
    CHECK(skipped > 160 * 0.45);
    CHECK(skipped < 160 * 0.75);
    CHECK(static_cast<double>(dropped) / static_cast<double>(dropped + kept) == doctest::Approx(0.25).epsilon(0.1));
    // The first layer is never skipped, and an evaluation is not thinned.
    one.at.context.training = false;
    CHECK(one.backward(3, ones) == ones);
}

}  // namespace layers
