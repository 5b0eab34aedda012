// SPDX-License-Identifier: Apache-2.0
//
// Gradients against central differences in double, and the one rule of accuracy for narrow formats.
#pragma once

#include <doctest/doctest.h>

#include <algorithm>
#include <cmath>
#include <random>
#include <string>
#include <vector>

#include "../sanitized.hpp"
#include "buffers.hpp"

namespace test {

/// The derivative of loss() along `direction` of x's elements; x is left as it was.
template <class Loss>
double slope_along(matrix<double>& x, const std::vector<double>& direction, Loss loss) {
    const matrix_view<double> view = x.view();
    const std::vector<double> before = [&] {
        std::vector<double> values;
        for (index r = 0; r < view.rows; ++r) values.insert(values.end(), view.row(r), view.row(r) + view.columns);
        return values;
    }();
    const auto move = [&](double step) {
        for (std::size_t i = 0; i < before.size(); ++i) {
            const auto at = static_cast<index>(i);
            view(at / view.columns, at % view.columns) = before[i] + step * direction[i];
        }
    };
    const auto difference = [&](double step) {
        move(step);
        const double up = loss();
        move(-step);
        return (up - loss()) / (2 * step);
    };
    // Two steps, so that the error falls with the fourth power: at 1e-3 both it and rounding stay below 1e-9.
    const double slope = (4 * difference(1e-3) - difference(2e-3)) / 3;
    move(0);
    return slope;
}

/// gradient = d loss / d x at a relative 1e-6: along one random direction, and at a few elements.
template <class Loss>
void check_gradient(const char* name, matrix<double>& x, matrix<double>& gradient, std::mt19937& generator, Loss loss) {
    const matrix_view<double> view = x.view(), slopes = gradient.view();
    const index size = view.size();
    if (size == 0) return;
    std::normal_distribution<double> normal;
    std::uniform_int_distribution<index> pick(0, size - 1);
    constexpr int probes = sanitized ? 1 : 4;
    for (int probe = 0; probe < probes; ++probe) {
        std::vector<double> direction(static_cast<std::size_t>(size));
        if (probe == 0) {
            for (double& d : direction) d = normal(generator);
        } else {
            direction[static_cast<std::size_t>(pick(generator))] = 1;
        }
        double expected = 0, magnitude = 1e-3;
        for (index i = 0; i < size; ++i) {
            const double term = slopes(i / view.columns, i % view.columns) * direction[static_cast<std::size_t>(i)];
            expected += term;
            magnitude += std::abs(term);
        }
        const double got = slope_along(x, direction, loss);
        INFO(std::string(name), " [", view.rows, ", ", view.columns, "], probe ", probe, ": ", got, " against ", expected);
        REQUIRE(std::abs(got - expected) <= 1e-6 * magnitude);
    }
}

/// Σ a·b: the loss whose gradient with respect to a is b.
inline double dot(matrix<double>& a, matrix<double>& b) {
    double total = 0;
    for (index r = 0; r < a.view().rows; ++r)
        for (index c = 0; c < a.view().columns; ++c) total += a(r, c) * b(r, c);
    return total;
}

/// The rule for narrow formats: the RMS error against double is at most 1.05 times that of rounding the exact result to F.
template <class F>
class rounding_rule {
public:
    void add(double got, double exact) {
        const double rounded = static_cast<double>(longspan::round_to<F>(static_cast<longspan::compute_t<F>>(exact)));
        ours_ += (got - exact) * (got - exact);
        least_ += (rounded - exact) * (rounded - exact);
    }
    [[nodiscard]] double ratio() const { return std::sqrt(ours_ / least_); }

private:
    double ours_ = 0, least_ = 0;
};

}  // namespace test
