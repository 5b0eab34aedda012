// SPDX-License-Identifier: Apache-2.0
//
// A store in the formats of an update, for tests on both backends: random, with blocks that are zero, tiny and wide.
#pragma once

#include <cmath>
#include <cstdint>
#include <random>
#include <type_traits>
#include <vector>

#include <longspan/core/adamw_update.hpp>
#include <longspan/precision/bf16.hpp>
#include <longspan/precision/update_run.hpp>

namespace narrow {

using namespace longspan;
using longspan::index;  // not POSIX's

inline constexpr adamw_update updates[] = {
    {.gradient_factor = 0.37, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .kept = 1 - 3e-3 * 0.1, .step = 3e-3 / (1 - 0.81), .root_factor = 1.7},
    {.gradient_factor = 0.37, .beta1 = 0.9, .beta2 = 0.95, .epsilon = 1e-8, .kept = 1, .step = 3e-3 / (1 - 0.81), .root_factor = 1.7}};

template <class Master, class Weight, class Moment>
struct state {
    static constexpr bool alone = std::is_void_v<Master>, coded = std::is_same_v<Moment, eight_bit>;
    using stored_moment = std::conditional_t<coded, std::uint8_t, Moment>;
    using stored_weight = std::conditional_t<std::is_void_v<Weight>, float, Weight>;
    using run_type = update_run<Master, Weight, float, Moment>;

    std::vector<float> masters;
    std::vector<stored_weight> weights;
    std::vector<stored_moment> first, second;
    std::vector<float> first_scales, second_scales;
    std::vector<std::uint8_t> decays;

    explicit state(index size, unsigned seed = 7) : masters(alone ? 0 : count(size)), weights(std::is_void_v<Weight> ? 0 : count(size)),
                                                    first(count(size)), second(count(size)), decays(count(size / 128)) {
        if (coded) first_scales.resize(count(size / 256)), second_scales.resize(count(size / 256));
        std::mt19937 engine(seed);
        std::normal_distribution<double> normal;
        for (std::size_t i = 0; i < count(size); ++i) {
            const auto p = static_cast<float>(normal(engine));
            if constexpr (!alone) masters[i] = p;
            if constexpr (!std::is_void_v<Weight>) weights[i] = static_cast<Weight>(p);
        }
        for (std::size_t i = 0; i < decays.size(); ++i) decays[i] = i % 3 != 0;
    }
    static std::size_t count(index n) { return static_cast<std::size_t>(n); }

    /// Elements [begin, end) as an update sees them; `place(vector)` says where an array lies, by default here.
    template <class Place>
    [[nodiscard]] run_type run(const float* gradients, index begin, index end, Place&& place) {
        run_type r;
        if constexpr (!alone) r.masters = place(masters) + begin;
        if constexpr (!std::is_void_v<Weight>) r.weights = place(weights) + begin;
        r.gradients = gradients + begin;
        if constexpr (coded) {
            r.first = moment_run<Moment>{place(first), place(first_scales)}.from(begin);
            r.second = moment_run<Moment>{place(second), place(second_scales)}.from(begin);
        } else {
            r.first = moment_run<Moment>{place(first)}.from(begin);
            r.second = moment_run<Moment>{place(second)}.from(begin);
        }
        r.decays = place(decays) + begin / 128;
        r.begin = begin;
        r.size = end - begin;
        return r;
    }
    [[nodiscard]] run_type run(const std::vector<float>& gradients, index begin, index end) {
        return run(gradients.data(), begin, end, [](auto& all) { return all.data(); });
    }
};

/// Block by block of 256: ordinary, nothing, one element alone, 1e-20 (squares are subnormal), eight orders of magnitude.
inline std::vector<float> gradients_of(index size, unsigned seed) {
    std::mt19937 engine(seed);
    std::normal_distribution<double> normal;
    std::vector<float> g(static_cast<std::size_t>(size));
    for (std::size_t i = 0; i < g.size(); ++i) {
        const double x = normal(engine);
        switch (i / 256 % 5) {
            case 0: g[i] = static_cast<float>(x); break;
            case 1: g[i] = seed % 2 == 0 ? 0 : static_cast<float>(x); break;
            case 2: g[i] = i % 256 == 17 ? 3 : 0; break;
            case 3: g[i] = static_cast<float>(1e-20 * x); break;
            default: g[i] = static_cast<float>(x * std::pow(10, -8 * std::abs(normal(engine)) / 3));
        }
    }
    return g;
}

}  // namespace narrow
