// SPDX-License-Identifier: Apache-2.0
//
// A step's surroundings for a single layer: an arena, random pieces, a context on the host.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <vector>

#include <longspan/host/cpu.hpp>
#include <longspan/layer/context.hpp>

namespace layers {

using namespace longspan;
using longspan::index;  // not POSIX's

/// Lengths which add up to at most `tokens`, with empty documents and documents of one token among them.
inline std::vector<piece> random_pieces(index tokens, std::mt19937_64& random) {
    std::vector<piece> pieces;
    const auto below = [&](index n) { return static_cast<index>(random() % static_cast<std::uint64_t>(n)); };
    for (index begin = 0; pieces.empty() || begin < tokens;) {
        const index left = tokens - begin;
        const index length = below(4) == 0 ? below(2) : below(3) == 0 ? left : 1 + below(left);
        pieces.push_back({below(8) == 0 ? -1 : below(1000), 0, begin});
        begin += length < left ? length : left;
    }
    if (below(2) == 0) pieces.push_back({-1, 0, tokens});
    return pieces;
}

/// What a layer of Model in double runs in.
template <class Model>
class bench {
public:
    using segment = host::cpu::segment;
    using context_type = step_context<host::cpu, double, segment>;

    bench(std::vector<piece> pieces, index tokens, std::uint64_t seed) : memory(16 * MiB), pieces_(std::move(pieces)), segments_(pieces_.size()) {
        constexpr index half = Model::shape.head() / 2;
        cosines_.resize(static_cast<std::size_t>(tokens * half));
        sines_.resize(cosines_.size());
        const piece_table table{pieces_, tokens};
        host::cpu::make_segments(table, segments_.data());
        const matrix_view cosines(cosines_.data(), tokens, half), sines(sines_.data(), tokens, half);
        if (Model::shape.head() % 2 == 0) host::cpu::rotary_table<Model::shape.head()>(table, Model::shape.rotary_base, cosines, sines);
        context = {.ops = {}, .memory = &memory, .tokens = tokens, .pieces = table, .segments = segments_, .cosines = cosines, .sines = sines,
                   .keys = &keys, .training = true};
        keys = {seed, 3};
    }

    arena memory;
    run_keys keys;
    context_type context;

private:
    std::vector<piece> pieces_;
    std::vector<segment> segments_;
    std::vector<double> cosines_, sines_;
};

inline std::vector<double> normals(index count, std::mt19937_64& random, double deviation = 1) {
    std::normal_distribution<double> normal(0, deviation);
    std::vector<double> values(static_cast<std::size_t>(count));
    for (double& v : values) v = normal(random);
    return values;
}

inline double dot(const std::vector<double>& a, const std::vector<double>& b) {
    double sum = 0;
    for (std::size_t i = 0; i < a.size(); ++i) sum += a[i] * b[i];
    return sum;
}

/// Half along the gradient, half at random: the derivative is large, and every element counts.
inline std::vector<double> direction_for(const std::vector<double>& gradient, std::mt19937_64& random) {
    std::vector<double> along = normals(static_cast<index>(gradient.size()), random, 1 / std::sqrt(static_cast<double>(gradient.size())));
    const double norm = std::sqrt(dot(gradient, gradient));
    for (std::size_t i = 0; i < along.size(); ++i) along[i] += norm > 0 ? gradient[i] / norm : 0;
    return along;
}

/// The derivative of f at 0, by a central difference: of layers whose derivatives are of size 1, right to about 1e-9.
template <class F>
double derivative(F&& f, double h = 1e-5) {
    return (f(h) - f(-h)) / (2 * h);
}

inline std::vector<double> moved(const std::vector<double>& from, const std::vector<double>& along, double step) {
    std::vector<double> to = from;
    for (std::size_t i = 0; i < to.size(); ++i) to[i] += step * along[i];
    return to;
}

}  // namespace layers
