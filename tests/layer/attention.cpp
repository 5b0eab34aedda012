// SPDX-License-Identifier: Apache-2.0
//
// The attention branch against plain loops over every pair of tokens. Its gradients are block.cpp's.
#include <doctest/doctest.h>

#include <longspan/layer/attention.hpp>
#include <longspan/model/shape.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>
#include <longspan/pattern/strip.hpp>

#include "bench.hpp"

namespace layers {

namespace {

constexpr index tokens = 45;
constexpr decoder_shape shape{.layers = 2, .width = 10, .heads = 4, .key_value_heads = 2, .head_width = 6, .qk_norm = true, .sink = true, .soft_cap = 3};
using model = model_of<shape, uniform_precision<double>>;
constexpr auto local = causal & (window<9> | first<2>);
using pattern = pattern_of<local>;
using attention = attention_layer<model, pattern>;

/// out[t] = x[t] · wᵀ.
std::vector<double> product(const std::vector<double>& x, index in, matrix_view<const double> w) {
    std::vector<double> y(static_cast<std::size_t>(tokens * w.rows));
    for (index t = 0; t < tokens; ++t) {
        for (index o = 0; o < w.rows; ++o) {
            for (index i = 0; i < in; ++i) y[static_cast<std::size_t>(t * w.rows + o)] += x[static_cast<std::size_t>(t * in + i)] * w(o, i);
        }
    }
    return y;
}

void norm_in_place(double* x, index n, const double* w) {
    double square = 0;
    for (index i = 0; i < n; ++i) square += x[i] * x[i] / static_cast<double>(n);
    for (index i = 0; i < n; ++i) x[i] *= w[i] / std::sqrt(square + shape.norm_epsilon);
}

}  // namespace

TEST_CASE("attention: the branch is what plain loops say, every option on") {
    std::mt19937_64 random(1);
    const std::vector<piece> pieces{{1, 0, 0}, {2, 0, 20}, {3, 0, 21}, {4, 0, 21}, {-1, 0, 40}};
    bench<model> at(pieces, tokens, 1);
    const std::vector<double> x = normals(tokens * shape.width, random), bucket = normals(table_size<attention::parameter_table>(), random, 0.6);
    const attention::weights w(bucket.data());

    std::vector<double> y(x.size());
    matrix_view<double> out(y.data(), tokens, shape.width);
    {
        const attention::saved kept(at.memory, tokens);
        attention::forward(at.context, 1, w, {}, {x.data(), tokens, shape.width}, &out, kept);
    }
    CHECK(at.memory.used() == 0);

    std::vector<double> normed = x;
    for (index t = 0; t < tokens; ++t) norm_in_place(normed.data() + t * shape.width, shape.width, w.get<"norm.weight">().data);
    constexpr index d = 6, heads = 4, columns = attention::projected;
    std::vector<double> qkv = product(normed, shape.width, w.get<"qkv.weight">());
    std::vector<double> attended(tokens * heads * d);
    for (std::size_t p = 0; p < pieces.size(); ++p) {
        const index begin = pieces[p].begin, end = p + 1 < pieces.size() ? pieces[p + 1].begin : tokens;
        for (index t = begin; t < end; ++t) {
            for (index h = 0; h < heads + 2; ++h) {  // four of queries, two of keys
                double* const head = qkv.data() + t * columns + h * d;
                norm_in_place(head, d, h < heads ? w.get<"query_norm.weight">().data : w.get<"key_norm.weight">().data);
                for (index j = 0; j < d / 2; ++j) {
                    const double angle = static_cast<double>(t - begin) * std::pow(10000.0, -2.0 * static_cast<double>(j) / d);
                    const double a = head[j], b = head[j + d / 2];
                    head[j] = a * std::cos(angle) - b * std::sin(angle);
                    head[j + d / 2] = b * std::cos(angle) + a * std::sin(angle);
                }
            }
        }
        for (index q = begin; q < end; ++q) {
            for (index h = 0; h < heads; ++h) {
                double total = std::exp(w.get<"sink">()(0, h));
                double* const sum = attended.data() + q * heads * d + h * d;
                for (index k = begin; k < end; ++k) {
                    const index from_query = q - begin, from_key = k - begin;
                    if (from_key > from_query || (from_query - from_key >= 9 && from_key >= 2)) continue;
                    double score = 0;
                    for (index i = 0; i < d; ++i) {
                        score += qkv[static_cast<std::size_t>(q * columns + h * d + i)] * qkv[static_cast<std::size_t>(k * columns + (heads + h / 2) * d + i)];
                    }
                    const double e = std::exp(3 * std::tanh(score / std::sqrt(6.0) / 3));
                    total += e;
                    for (index i = 0; i < d; ++i) sum[i] += e * qkv[static_cast<std::size_t>(k * columns + (heads + 2 + h / 2) * d + i)];
                }
                for (index i = 0; i < d; ++i) sum[i] /= total;
            }
        }
    }
    const std::vector<double> branch = product(attended, heads * d, w.get<"out.weight">());
    double worst = 0;
    for (std::size_t i = 0; i < y.size(); ++i) worst = std::max(worst, std::abs(y[i] - x[i] - branch[i]));
    CHECK(worst < 1e-12);
}

TEST_CASE("attention: what a shape's options cost") {
    constexpr decoder_shape bare{.layers = 2, .width = 12, .heads = 3};
    using tables = attention_tables<model_of<bare, uniform_precision<float>>>;
    CHECK(table_parameters<tables::parameter_table>() == 12 + 36 * 12 + 12 * 12);
    CHECK(table_parameters<attention::parameter_table>() == 10 + 48 * 10 + 6 + 6 + 4 + 10 * 24);
    // Saved: projection, output, log-sum-exp, reciprocal deviation.
    CHECK(layout_of<uniform_precision<float>, tables::saved_table>("", 10).peak(1) == 4 * 10 * (36 + 12 + 3 + 1));
    CHECK(tables::parameter_table::list[7].cut == shard::row);
}

}  // namespace layers
