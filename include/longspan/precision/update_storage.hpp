// SPDX-License-Identifier: Apache-2.0
//
// What the optimizer keeps of each parameter between two updates, and in which format. A configuration may say so:
//
//     static constexpr auto update = ls::moments<ls::eight_bit>.without_masters().by_bucket();
//
//   ls::moments<F>        the two moments of AdamW: float, ls::bf16 (rounded stochastically) or ls::eight_bit (precision/eight_bit.hpp)
//   .without_masters()    the weights in bf16 are the only copy of the parameters; an update rounds them stochastically
//   .bf16_gradients()     sums of gradients in bf16: each micro-batch's are made in float, a bucket at a time, and added, rounded to nearest
//   .by_bucket()          gradients of one bucket at a time: a block's are used as soon as its backward has made them. There is no global
//                         norm to clip by then, a step has one micro-batch, and a gradient that is not finite stops the run
//   .with_norm()          behind by_bucket(): forward and backward run twice, first for the global norm, then for the update
//
// Without it moments and masters are the precision policy's. Bytes a parameter under mixed<bf16>, of weight, master, gradient and
// moments: 2 + 4 + 4 + 8 = 18 by default, 14 without masters, 10 with moments in bf16, 8.03 in eight bits, 6.03 with gradients in bf16,
// 4.03 and one bucket's gradients by bucket. What each costs in accuracy: docs/memory.md.
#pragma once

#include <concepts>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/precision/eight_bit.hpp>
#include <longspan/precision/policy.hpp>

namespace longspan {

/// What becomes of gradients: summed up in a store of their own, or used bucket by bucket.
enum class gradient_use : unsigned char { whole, whole_in_bf16, by_bucket, by_bucket_twice };

/// Moment: what moments are stored as; void: as the precision policy says.
template <class Moment = void, bool Masters = true, gradient_use Use = gradient_use::whole>
struct update_storage {
    static constexpr bool known =
        std::is_void_v<Moment> || std::same_as<Moment, float> || std::same_as<Moment, bf16> || std::same_as<Moment, eight_bit>;
    static_assert(known, "moments<F>: moments are stored as float, ls::bf16 or ls::eight_bit");

    static constexpr bool masters = Masters;
    static constexpr bool in_buckets = Use == gradient_use::by_bucket || Use == gradient_use::by_bucket_twice;
    static constexpr bool twice = Use == gradient_use::by_bucket_twice;
    static constexpr bool in_bf16 = Use == gradient_use::whole_in_bf16;  ///< sums of gradients
    /// Whether a backward makes gradients in the room of one bucket, and something becomes of them there.
    static constexpr bool through_a_room = Use != gradient_use::whole;
    static constexpr bool knows_norm = !in_buckets || twice;  ///< before the first parameter changes
    /// The format of the moments under a precision policy.
    template <class Precision>
    using moment = std::conditional_t<std::is_void_v<Moment>, storage_of<Precision, role::moment>, Moment>;
    /// Whether a float master stands beside each weight.
    template <class Precision>
    static constexpr bool has_master = Masters && Precision::has_master;
    /// Whether this is what the precision policy alone would keep.
    template <class Precision>
    static constexpr bool usual = std::floating_point<moment<Precision>> && has_master<Precision> == Precision::has_master;
    /// Elements from one bucket's start to the next are a multiple of this, so that no block of 256 lies in two.
    static constexpr index bucket_alignment = std::same_as<Moment, eight_bit> ? eight_bit::block : 128;
    static constexpr const char* moments_name = [] {
        if constexpr (std::same_as<Moment, eight_bit>) return eight_bit::name;
        else if constexpr (!std::is_void_v<Moment>) return format<Moment>::name;
        else return "usual";
    }();

    /// The same with the weights as the only copy of the parameters.
    [[nodiscard]] static consteval update_storage<Moment, false, Use> without_masters() { return {}; }
    /// The same with sums of gradients in bf16.
    [[nodiscard]] static consteval update_storage<Moment, Masters, gradient_use::whole_in_bf16> bf16_gradients() {
        static_assert(!in_buckets, "bf16_gradients(): the format of sums that are kept; by_bucket() keeps none");
        return {};
    }
    /// The same with gradients that are used and forgotten bucket by bucket.
    [[nodiscard]] static consteval update_storage<Moment, Masters, gradient_use::by_bucket> by_bucket() {
        static_assert(Use == gradient_use{}, "by_bucket(): said once, of gradients for which nothing else was said: bf16_gradients() keeps their sums, "
                                             "and with_norm() stands behind");
        return {};
    }
    /// The same with every pass made twice, so that the global norm is known before the first parameter changes.
    [[nodiscard]] static consteval update_storage<Moment, Masters, gradient_use::by_bucket_twice> with_norm() {
        static_assert(in_buckets, "with_norm(): behind by_bucket(); gradients that are kept whole have their norm anyway");
        return {};
    }

    friend constexpr bool operator==(update_storage, update_storage) = default;
};

template <class F>
inline constexpr update_storage<F> moments{};
/// What the precision policy says.
inline constexpr update_storage<> usual_update{};

template <class T>
inline constexpr bool is_update_storage = false;
template <class Moment, bool Masters, gradient_use Use>
inline constexpr bool is_update_storage<update_storage<Moment, Masters, Use>> = true;

/// Says no in a sentence where the two make no sense together.
template <class Update, class Precision>
[[nodiscard]] consteval bool check_update() {
    constexpr bool in_bf16 = std::same_as<storage_of<Precision, role::weight>, bf16>;
    constexpr bool stochastic = Update::masters || in_bf16;
    static_assert(stochastic, "config.update: without_masters() rounds bf16 weights stochastically; it goes with ls::mixed<ls::bf16>. Under ls::fp32, "
                              "ls::tf32 and ls::fp64 a weight is its own master already, and fp16 weights need one");
    constexpr bool doubles = std::same_as<storage_of<Precision, role::moment>, double>;
    constexpr bool alike = !doubles || (std::same_as<typename Update::template moment<Precision>, double> && !Update::in_bf16);
    static_assert(alike, "config.update: under ls::fp64 everything is double, moments and gradients too; leave config.update out, or take ls::usual_update");
    constexpr bool scaled = !Update::knows_norm && Precision::needs_loss_scale;
    static_assert(!scaled, "config.update: by_bucket() stops the run at the first gradient that is not finite, and under ls::mixed<ls::fp16> some "
                           "are, to find the loss scale; take by_bucket().with_norm(), or another precision");
    return true;
}

}  // namespace longspan
