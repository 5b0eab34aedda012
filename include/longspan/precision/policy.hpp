// SPDX-License-Identifier: Apache-2.0
//
// The precision axis: which format each tensor of a model is stored in, by its role. A policy is an empty constexpr value whose
// type carries the map, so that a config says `static constexpr auto precision = ls::mixed<ls::bf16>;`.
//
//   policy        weight, activation, saved, gradient, residual   operands of products   statistic, parameter gradient, moment
//   fp32          float                                           float                  float
//   fp64          double                                          double                 double
//   tf32          float                                           float at 10 bits       float
//   mixed<F>      F                                               F                      float, and a float master of each weight
//   two streams   the residual in fixed point, the rest as named (fixed_residual<P>, residual_kind::two_streams)
//
// Everything accumulates in float or wider. Bytes per parameter under AdamW: 16 for fp32 and tf32 (weight, gradient, two
// moments), 32 for fp64, 18 for mixed (2 + 4 + 4 of master + 8).
//
// Reference: Micikevicius et al., "Mixed Precision Training", arXiv:1710.03740.
#pragma once

#include <concepts>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/precision/format.hpp>

namespace longspan {

/// What a tensor is for; the policy decides from it what the tensor is stored in.
enum class role {
    weight,              ///< a parameter as the forward pass reads it
    activation,          ///< passed from op to op
    saved,               ///< an activation kept for the backward pass
    gradient,            ///< of an activation
    residual,            ///< the stream that every block adds to
    statistic,           ///< per row: log-sum-exp, mean, reciprocal deviation, delta, loss
    parameter_gradient,  ///< summed over tokens and micro-batches
    master,              ///< the parameter as the optimizer keeps it
    moment               ///< the optimizer's running averages
};

/// A precision policy's type: `storage<role>`, `operand`, `compute`, `accumulate`, `has_master`, `needs_loss_scale`, `name`.
template <class P>
concept precision_policy = requires {
    requires storage_format<typename P::template storage<role::weight>>;
    requires storage_format<typename P::template storage<role::activation>>;
    requires storage_format<typename P::template storage<role::saved>>;
    requires storage_format<typename P::template storage<role::gradient>>;
    requires stream_format<typename P::template storage<role::residual>>;
    requires std::floating_point<typename P::template storage<role::statistic>>;
    requires std::floating_point<typename P::template storage<role::parameter_gradient>>;
    requires std::floating_point<typename P::template storage<role::master>>;
    requires std::floating_point<typename P::template storage<role::moment>>;
    requires operand_format<typename P::operand>;
    requires std::same_as<typename P::compute, compute_t<typename P::operand>>;
    requires std::floating_point<typename P::accumulate>;
    { P::has_master } -> std::convertible_to<bool>;
    { P::needs_loss_scale } -> std::convertible_to<bool>;
    { P::name } -> std::convertible_to<const char*>;
};

/// Everything in one type: float, or double for checks. The weight is its own master.
template <std::floating_point T>
struct uniform_precision {
    template <role>
    using storage = T;
    using operand = T;
    using compute = T;
    using accumulate = T;
    static constexpr bool has_master = false;
    static constexpr bool needs_loss_scale = false;
    static constexpr const char* name = format<T>::name;
};

/// Floats everywhere; products read their operands at 10 mantissa bits.
struct tf32_precision : uniform_precision<float> {
    using operand = tf32_format;
    static constexpr const char* name = format<tf32_format>::name;
};

/// Two-byte tensors, float accumulation, statistics and optimizer, and a float master of every weight.
template <storage_format F>
struct mixed_precision {
    static_assert(sizeof(F) == 2,
                  "mixed<F> takes a two-byte storage format: bf16 or fp16; for float use fp32, for double fp64");
    template <role R>
    using storage = std::conditional_t<(R == role::weight || R == role::activation || R == role::saved || R == role::gradient ||
                                        R == role::residual),
                                       F, float>;
    using operand = F;
    using compute = float;
    using accumulate = float;
    static constexpr bool has_master = true;
    static constexpr bool needs_loss_scale = std::same_as<F, fp16>;  // gradients below 2^-24 would vanish
    static constexpr const char* name = std::same_as<F, bf16> ? "mixed<bf16>" : "mixed<fp16>";
};

/// P with residual streams whose sums can be undone: what a model of two streams makes of its config's precision.
template <precision_policy P>
struct fixed_residual : P {
    template <role R>
    using storage = std::conditional_t<R == role::residual, fixed_stream<compute_t<typename P::template storage<role::residual>>>,
                                       typename P::template storage<R>>;
};

inline constexpr uniform_precision<float> fp32{};
inline constexpr uniform_precision<double> fp64{};
inline constexpr tf32_precision tf32{};
template <storage_format F>
inline constexpr mixed_precision<F> mixed{};

/// The type of a policy value without its const: `precision_of<decltype(config::precision)>`.
template <class Policy>
using precision_of = std::remove_cvref_t<Policy>;

/// The format in which Policy stores tensors of role R. Policy may be `decltype(config::precision)`.
template <class Policy, role R>
    requires precision_policy<std::remove_cvref_t<Policy>>
using storage_of = typename std::remove_cvref_t<Policy>::template storage<R>;

/// Bytes of one element of role R under Policy.
template <class Policy, role R>
inline constexpr bytes bytes_of = sizeof(storage_of<Policy, R>);

}  // namespace longspan
