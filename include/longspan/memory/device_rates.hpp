// SPDX-License-Identifier: Apache-2.0
//
// What a device does in a second: the constants behind what a step is expected to take (model/forecast.hpp) and whether copies hide
// behind work (model/hiding.hpp). `bench_cuda_calibrate` measures them on the device at hand and prints them as they stand below.
// A rate of 0 is one that nobody knows: what it would time takes no time.
//
//     static constexpr ls::device_rates rates{.products = 300e12, .attention = {.forward = 250e12, .backward = 200e12},
//                                             .memory = 2e12, .to_host = 25e9, .from_host = 25e9};
#pragma once

#include <concepts>

#include <longspan/core/types.hpp>
#include <longspan/precision/policy.hpp>

namespace longspan {

/// Attention with heads of one width: operations a second of queries that see many keys, 4·d a pair and head forward and 10·d backward,
/// and how many keys more than it sees a query seems to see, by what a block of queries takes to begin and to end and by the
/// edges of tiles: seconds = operations of (keys + edge) / rate.
struct attention_rates {
    double forward = 0, backward = 0;            ///< operations/s
    double forward_edge = 0, backward_edge = 0;  ///< keys a query
};

struct device_rates {
    const char* name = "";
    double products = 0;       ///< operations/s of large dense products of two-byte operands
    double products_tf32 = 0;  ///< the same of tf32's operands, and of floats; 0: as two-byte operands
    double products_fp32 = 0;
    double product_edge = 0;   ///< results more than it has that a product seems to make: half a wave of tiles waits for the last
    double exposed = 0;        ///< of the bytes that a product reads and writes, the share that takes time beside its operations
    attention_rates attention{};         ///< heads of 128, and whatever the next two do not say
    attention_rates narrow_attention{};  ///< heads of 64 and less
    attention_rates wide_attention{};    ///< heads of 256 and more
    double memory = 0;         ///< bytes/s of passes over device memory, what is read and what is written
    double to_host = 0;        ///< bytes/s to pinned memory
    double from_host = 0;      ///< and from it
    double launch = 0;         ///< seconds that a kernel of a recorded step takes beside its work

    [[nodiscard]] constexpr attention_rates attention_of(index head) const {
        const attention_rates& own = head <= 64 ? narrow_attention : head >= 256 ? wide_attention : attention;
        return own.forward > 0 ? own : attention;
    }
    /// Of products under a precision policy.
    template <precision_policy Precision>
    [[nodiscard]] constexpr double products_of() const {
        double own = 0;
        if constexpr (std::same_as<typename Precision::operand, tf32_format>) own = products_tf32;
        else if constexpr (sizeof(typename Precision::operand) > 2) own = products_fp32;
        return own > 0 ? own : products;
    }
};

/// Seconds that so much takes at a rate.
[[nodiscard]] constexpr double seconds_of(double amount, double rate) { return rate > 0 ? amount / rate : 0; }

/// One H200 on PCIe 5: docs/forecast.md says by which measurements.
inline constexpr device_rates h200{.name = "H200",
                                   .products = 722.5e12,
                                   .products_tf32 = 357.7e12,
                                   .products_fp32 = 50.28e12,
                                   .product_edge = 0.5 * 132 * 128 * 256,
                                   .exposed = 0.509,
                                   .attention = {.forward = 654.6e12, .backward = 571.6e12, .forward_edge = 161, .backward_edge = 256},
                                   .narrow_attention = {.forward = 545.3e12, .backward = 498.2e12, .forward_edge = 657, .backward_edge = 351},
                                   .wide_attention = {.forward = 715.2e12, .backward = 357.7e12, .forward_edge = 233, .backward_edge = 529},
                                   .memory = 4.111e12,
                                   .to_host = 55.31e9,
                                   .from_host = 55.35e9,
                                   .launch = 0.679e-6};
/// The same with attention by the kernels that run on any GPU since sm_80.
inline constexpr device_rates h200_portable = [] {
    device_rates r = h200;
    r.attention = {.forward = 360.7e12, .backward = 272e12, .forward_edge = 179, .backward_edge = 264};
    r.narrow_attention = {.forward = 314.5e12, .backward = 271.2e12, .forward_edge = 280, .backward_edge = 299};
    r.wide_attention = {};
    return r;
}();
/// And of floats, whose attention multiplies outside the tensor cores.
inline constexpr device_rates h200_fp32 = [] {
    device_rates r = h200;
    r.attention = {.forward = 45e12, .backward = 45e12};
    r.narrow_attention = r.wide_attention = {};
    return r;
}();

}  // namespace longspan
