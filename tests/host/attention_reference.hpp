// SPDX-License-Identifier: Apache-2.0
//
// Attention from its definition, in plain loops and double, and what its tests share: documents, random operands, calls.
#pragma once

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <random>
#include <span>
#include <type_traits>
#include <vector>

#include <longspan/core/philox.hpp>
#include <longspan/host/attention.hpp>

#include "buffers.hpp"

namespace test {

using longspan::host::accumulate;
using longspan::host::attention_segment;
using longspan::host::score_arguments;

/// A [rows, columns] matrix of doubles.
struct dense {
    index rows = 0, columns = 0;
    std::vector<double> values;

    dense() = default;
    dense(index r, index c) : rows(r), columns(c), values(static_cast<std::size_t>(r * c)) {}
    template <class T>
    explicit dense(matrix<T>& from) : dense(from.view().rows, from.view().columns) {
        for (index r = 0; r < rows; ++r)
            for (index c = 0; c < columns; ++c) (*this)(r, c) = from.value(r, c);
    }
    [[nodiscard]] double& operator()(index r, index c) { return values[static_cast<std::size_t>(r * columns + c)]; }
    [[nodiscard]] const double& operator()(index r, index c) const { return values[static_cast<std::size_t>(r * columns + c)]; }
    [[nodiscard]] double largest() const {
        double most = 0;
        for (const double x : values) most = std::max(most, std::abs(x));
        return most;
    }
};

/// What a call computes.
struct attention_results {
    dense out, lse, dq, dk, dv;
    std::vector<double> d_sinks;
};

/// `sees(ordinal, query, key)` over positions. Options of `score` are on where their number in `values` is: a cap above 0,
/// slopes, sinks, a rate.
template <class Sees>
attention_results reference_attention(const dense& q, const dense& k, const dense& v, const dense& d_out, index head_dim,
                                      const std::vector<attention_segment>& segments, const score_arguments& values, Sees sees) {
    const index heads = q.columns / head_dim, group = heads / (k.columns / head_dim);
    attention_results r{dense(q.rows, q.columns), dense(q.rows, heads), dense(q.rows, q.columns), dense(k.rows, k.columns),
                        dense(k.rows, k.columns), std::vector<double>(static_cast<std::size_t>(heads))};
    const double scale = values.scale != 0 ? values.scale : 1 / std::sqrt(static_cast<double>(head_dim));
    const longspan::philox_key key = longspan::key_of(values.site);
    const double infinity = std::numeric_limits<double>::infinity();
    for (const attention_segment& s : segments) {
        std::vector<double> score(static_cast<std::size_t>(s.key_count)), slope(score), kept(score);
        for (index i = 0; i < s.query_count; ++i) {
            const index row = s.query_begin + i, query = s.query_position + i;
            for (index h = 0; h < heads; ++h) {
                const index at = h * head_dim, from = h / group * head_dim;
                double top = values.sinks ? values.sinks[h] : -infinity;
                for (index j = 0; j < s.key_count; ++j) {
                    const auto n = static_cast<std::size_t>(j);
                    const index position = s.key_position + j;
                    score[n] = -infinity, slope[n] = scale, kept[n] = 1;
                    if (!sees(s.ordinal, query, position)) continue;
                    double x = 0;
                    for (index d = 0; d < head_dim; ++d) x += q(row, at + d) * k(s.key_begin + j, from + d);
                    x *= scale;
                    if (values.soft_cap > 0) {
                        const double t = std::tanh(x / values.soft_cap);
                        x = t * values.soft_cap, slope[n] *= 1 - t * t;
                    }
                    if (values.slopes) x -= values.slopes[h] * std::abs(static_cast<double>(query - position));
                    score[n] = x;
                    top = std::max(top, x);
                    if (values.dropout.active()) {
                        const auto drawn = longspan::philox4x32(longspan::attention_map_counter(s.document, h, query, position / 16), key);
                        const bool keep = longspan::byte_of(drawn, position % 16) >= values.dropout.threshold();
                        kept[n] = keep ? values.dropout.template scale<double>() : 0;
                    }
                }
                if (top == -infinity) {
                    r.lse(row, h) = top;
                    continue;
                }
                double total = values.sinks ? std::exp(values.sinks[h] - top) : 0;
                for (double& x : score) total += x = std::exp(x - top);
                r.lse(row, h) = top + std::log(total);
                double delta = 0;
                for (index j = 0; j < s.key_count; ++j) {
                    const auto n = static_cast<std::size_t>(j);
                    score[n] /= total;
                    for (index d = 0; d < head_dim; ++d) r.out(row, at + d) += score[n] * kept[n] * v(s.key_begin + j, from + d);
                }
                for (index d = 0; d < head_dim; ++d) delta += d_out(row, at + d) * r.out(row, at + d);
                for (index j = 0; j < s.key_count; ++j) {
                    const auto n = static_cast<std::size_t>(j);
                    const index key_row = s.key_begin + j;
                    double dp = 0;
                    for (index d = 0; d < head_dim; ++d) dp += d_out(row, at + d) * v(key_row, from + d);
                    const double ds = score[n] * (dp * kept[n] - delta) * slope[n];
                    for (index d = 0; d < head_dim; ++d) {
                        r.dq(row, at + d) += ds * k(key_row, from + d);
                        r.dk(key_row, from + d) += ds * q(row, at + d);
                        r.dv(key_row, from + d) += score[n] * kept[n] * d_out(row, at + d);
                    }
                }
                if (values.sinks) r.d_sinks[static_cast<std::size_t>(h)] -= std::exp(values.sinks[h] - top) / total * delta;
            }
        }
    }
    return r;
}

/// Documents end to end, queries and keys alike.
inline std::vector<attention_segment> documents(const std::vector<index>& lengths) {
    std::vector<attention_segment> result;
    index begin = 0;
    for (const index n : lengths) {
        const index i = static_cast<index>(result.size());
        result.push_back({begin, n, 0, begin, n, 0, i, 1000 + 7 * i});
        begin += n;
    }
    return result;
}

/// Operands in guarded memory with gaps between rows, and calls on them.
template <class P, index HeadDim, class Score, class T>
struct attention_problem {
    using op = longspan::host::attention<P, HeadDim, Score>;
    using statistic = longspan::compute_t<T>;
    static constexpr index head_dim = HeadDim;

    std::vector<attention_segment> segments;
    index heads, key_heads;
    matrix<T> q, k, v, d_out;
    typename P::arguments arguments{};
    score_arguments values{};
    std::vector<double> slopes, sinks;

    attention_problem(std::mt19937& generator, std::vector<attention_segment> segments_, index heads_, index key_heads_,
                      const typename P::arguments& arguments_ = {}, double spread = 1)
        : segments(std::move(segments_)),
          heads(heads_),
          key_heads(key_heads_),
          q(query_rows(), heads * HeadDim),
          k(key_rows(), key_heads * HeadDim, 5),
          v(key_rows(), key_heads * HeadDim, 2),
          d_out(query_rows(), heads * HeadDim, 1),
          arguments(arguments_) {
        q.fill_random(generator, spread), k.fill_random(generator), v.fill_random(generator), d_out.fill_random(generator);
        std::normal_distribution<double> normal;
        for (index h = 0; h < heads; ++h) slopes.push_back(0.3 / static_cast<double>(h + 1)), sinks.push_back(normal(generator));
        if (Score::soft_cap) values.soft_cap = 1.5;
        if (Score::alibi) values.slopes = slopes.data();
        if (Score::sink) values.sinks = sinks.data();
        if (Score::dropout) {
            values.dropout = longspan::dropout_rate(0.3);
            values.site = {.seed = 11, .step = 5, .layer = 2, .site = 9};
        }
    }

    [[nodiscard]] index query_rows() const {
        index rows = 0;
        for (const attention_segment& s : segments) rows = std::max(rows, s.query_begin + s.query_count);
        return rows;
    }
    [[nodiscard]] index key_rows() const {
        index rows = 0;
        for (const attention_segment& s : segments) rows = std::max(rows, s.key_begin + s.key_count);
        return rows;
    }
    [[nodiscard]] bool sees(index ordinal, index query, index key) const { return P::contains(arguments, ordinal, query, key); }

    [[nodiscard]] attention_results reference() {
        const dense operands[] = {dense(q), dense(k), dense(v), dense(d_out)};
        return reference_attention(operands[0], operands[1], operands[2], operands[3], HeadDim, segments, values,
                                   [&](index o, index i, index j) { return sees(o, i, j); });
    }
};

/// Outputs of both directions, poisoned before.
template <class Problem, class T>
struct attention_outputs {
    using statistic = typename Problem::statistic;
    matrix<T> out, dq, dk, dv;
    matrix<statistic> lse;
    std::vector<double> d_sinks;
    std::vector<statistic> workspace;

    explicit attention_outputs(const Problem& p)
        : out(p.query_rows(), p.heads * Problem::head_dim),
          dq(p.query_rows(), p.heads * Problem::head_dim, 4),
          dk(p.key_rows(), p.key_heads * Problem::head_dim, 1),
          dv(p.key_rows(), p.key_heads * Problem::head_dim, 6),
          lse(p.query_rows(), p.heads, 1),
          d_sinks(static_cast<std::size_t>(p.heads)),
          workspace(static_cast<std::size_t>(Problem::op::template backward_workspace<T>(p.query_rows(), p.heads)) / sizeof(statistic) + 1,
                    poison<statistic>()) {}

    void forward(Problem& p, bool merge = false) {
        Problem::op::forward(p.q.view(), p.k.view(), p.v.view(), p.segments, p.arguments, p.values, out.view(), lse.view(), merge);
    }
    void backward(Problem& p, accumulate add = accumulate::no, longspan::matrix_view<const statistic> delta = {}) {
        Problem::op::backward(p.q.view(), p.k.view(), p.v.view(), p.segments, p.arguments, p.values, p.d_out.view(), out.view(), lse.view(),
                              delta, dq.view(), dk.view(), dv.view(), add, d_sinks.data(), reinterpret_cast<std::byte*>(workspace.data()));
    }
    void both(Problem& p) { forward(p), backward(p); }

    [[nodiscard]] bool intact() {
        return out.intact() && lse.intact() && dq.intact() && dk.intact() && dv.intact() && std::isnan(workspace.back());
    }
    [[nodiscard]] bool same_bits(const attention_outputs& other) const {
        return out.same_bits(other.out) && lse.same_bits(other.lse) && dq.same_bits(other.dq) && dk.same_bits(other.dk) &&
               dv.same_bits(other.dv) && d_sinks == other.d_sinks;
    }
};

/// The largest |got − want| beside the largest |want| (or `least`); infinite for a NaN. Equal infinities are no difference.
template <class T>
double relative_error(matrix<T>& got, const dense& want, double least = 1e-30) {
    double worst = 0;
    for (index r = 0; r < want.rows; ++r)
        for (index c = 0; c < want.columns; ++c) {
            const double x = got.value(r, c), y = want(r, c);
            if (x == y) continue;
            const double error = std::abs(x - y);
            worst = std::isfinite(error) ? std::max(worst, error) : std::numeric_limits<double>::infinity();
        }
    double most = least;
    for (const double y : want.values)
        if (std::isfinite(y)) most = std::max(most, std::abs(y));
    return worst / most;
}

}  // namespace test
