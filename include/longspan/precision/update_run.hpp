// SPDX-License-Identifier: Apache-2.0
//
// A run of a parameter store as an update reads and writes it: pointers in the formats of update_storage, and the place of its first
// element in the store, which draws of stochastic rounding are keyed by. Plain data, in the backend's memory: kernels take it whole.
#pragma once

#include <cstdint>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/precision/eight_bit.hpp>

namespace longspan {

/// One of the two moments of a run. `values` and `scales` belong to the run's first element.
template <class Format>
struct moment_run {
    Format* values = nullptr;
    [[nodiscard]] constexpr moment_run from(index element) const { return {values + element}; }
};
template <>
struct moment_run<eight_bit> {
    std::uint8_t* values = nullptr;
    float* scales = nullptr;  ///< one a block
    [[nodiscard]] constexpr moment_run from(index element) const { return {values + element, scales + element / eight_bit::block}; }
};

/// Master: float, or void where the weights are the only copy. Weight: what the model reads, bf16 where there is no master, void where
/// it reads the masters themselves.
template <class Master, class Weight, class Gradient, class Moment>
struct update_run {
    using moment = Moment;
    Master* masters = nullptr;
    Weight* weights = nullptr;
    const Gradient* gradients = nullptr;
    moment_run<Moment> first, second;
    const std::uint8_t* decays = nullptr;  ///< a byte for every 128 elements
    index begin = 0;                       ///< of the first element in the store, a multiple of 128; of 256 where moments are in eight bits
    index size = 0;                        ///< likewise

    /// Elements from one place where the run may be cut to the next.
    static constexpr index granularity = std::is_same_v<Moment, eight_bit> ? eight_bit::block : 128;
};

}  // namespace longspan
