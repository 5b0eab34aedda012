// SPDX-License-Identifier: Apache-2.0
//
// Whether what an offloading policy keeps can leave and return behind the work of a device, from operations and bandwidth:
//
//     bytes that a segment keeps / bytes per second  ≤  operations of the next segment's forward / operations per second
//
// and the same of what returns, against a backward. Bytes and operations both grow with the tokens, so that what decides is the width, and,
// where attention reaches far, the context. Attention counts documents as long as the context under the pattern that sees least.
// Where copies take longer, the device would wait for them in every block: the plan does not compile, unless the policy says
// `even_if_slow()`. A backend without `rates`, as the host, has one memory, and nothing waits. A config may name rates of its own:
//
//     static constexpr ls::device_rates rates{.products = 300e12, .attention = 250e12, .to_host = 25e9, .from_host = 25e9};
#pragma once

#include <cstddef>
#include <type_traits>
#include <utility>

#include <longspan/checkpoint/policy.hpp>
#include <longspan/memory/transfer.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/decoder.hpp>

namespace longspan {

/// Of the segment whose copies are hardest to hide, nanoseconds a token.
struct hiding {
    double leaves = 0, forward = 0;     ///< its bytes to the host; the forward beside it
    double returns = 0, backward = 0;   ///< its bytes back; what is made again, and backward, beside it

    [[nodiscard]] constexpr bool hides() const { return leaves <= forward && returns <= backward; }
};

namespace detail {

/// Keys that a query of P sees on average, of sixteen in a document of `length`; 0 where that depends on run-time values.
template <pattern P>
[[nodiscard]] constexpr double mean_keys(index length) {
    if constexpr (!std::is_empty_v<typename P::arguments>) return 0;
    constexpr index samples = 16;
    index keys = 0;
    for (index i = 0; i < samples; ++i) {
        const index query = (2 * i + 1) * length / (2 * samples);
        const auto seen = P::keys({}, 0, {query, query + 1}).any;
        for (int part = 0; part < seen.count; ++part) keys += overlap(seen.items[part], {0, length}).length();
    }
    return static_cast<double>(keys) / samples;
}

template <class Patterns>
[[nodiscard]] constexpr double least_keys(index length) {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
        const double keys[] = {mean_keys<pattern_at<Patterns, static_cast<index>(I)>>(length)...};
        double least = keys[0];
        for (const double each : keys) least = each < least ? each : least;
        return least;
    }(std::make_index_sequence<static_cast<std::size_t>(pattern_count<Patterns>)>{});
}

/// Config's rates, or the backend's; zeros where copies take no time.
template <configuration Config, class Backend>
[[nodiscard]] constexpr device_rates rates_of() {
    if constexpr (requires { Config::rates; }) return Config::rates;
    else if constexpr (requires { Backend::template rates<model_of_config<Config>>; }) return Backend::template rates<model_of_config<Config>>;
    else return {};
}

}  // namespace detail

/// What Policy's copies take on Backend beside the work that hides them; nothing of policies that say not where their segments lie.
template <configuration Config, class Backend, class Policy = checkpoint_of<Config>>
[[nodiscard]] constexpr hiding hiding_of() {
    using model = model_of_config<Config>;
    using patterns = attention_of<Config>;
    hiding worst;
    constexpr device_rates rates = detail::rates_of<Config, Backend>();
    if constexpr (offloads<Policy> && rates.to_host > 0 && requires { Policy::extent(std::size_t{}, index{}); }) {
        constexpr double second = 1e9;
        const double keys = detail::least_keys<patterns>(Config::shape.context);
        const auto operations = [&](cost made) { return block_tables<model>::flops(made, keys); };
        const double products = operations(cost::expansion) + operations(cost::product) + operations(cost::output);
        const double block = second * (products / rates.products + operations(cost::attention) / rates.attention);
        const stack_bytes one = decoder_memory<model, patterns, Backend>::stack(1);
        for (std::size_t i = 0; i < Policy::count; ++i) {
            const auto at = Policy::extent(i, Config::shape.layers);
            if (at.leaving() == 0) continue;
            const auto blocks = static_cast<double>(at.length);
            const double bytes_kept = static_cast<double>(one.stream) +
                                      blocks * static_cast<double>(one.saved.only([&](cost worth) { return worth >= at.from; }).peak(1));
            // A backward is two forwards at least, whatever is made again beside it.
            const hiding rule{second * bytes_kept / rates.to_host, blocks * block, second * bytes_kept / rates.from_host, 2 * blocks * block};
            if (rule.leaves * worst.forward >= worst.leaves * rule.forward) worst = rule;
        }
    }
    return worst;
}

/// Whether a device need not wait for what leaves and returns under Policy, or may.
template <configuration Config, class Backend, class Policy = checkpoint_of<Config>>
[[nodiscard]] constexpr bool hides_or_may_wait() {
    if constexpr (requires { requires Policy::may_wait; }) return true;
    else return hiding_of<Config, Backend, Policy>().hides();
}

/// Refuses a configuration whose policy would have Backend wait for copies: with both times, since a compiler prints what it compares.
template <configuration Config, class Backend>
consteval bool check_hiding() {
    if constexpr (!hides_or_may_wait<Config, Backend>()) {
        constexpr hiding copies = hiding_of<Config, Backend>();
        // Of a thousand tokens, as whole numbers.
        constexpr auto microseconds_to_leave = static_cast<index>(copies.leaves + 1), microseconds_of_forward = static_cast<index>(copies.forward);
        constexpr auto microseconds_to_return = static_cast<index>(copies.returns + 1), microseconds_of_backward = static_cast<index>(copies.backward);
        static_assert(microseconds_to_leave <= microseconds_of_forward,
                      "config.checkpoint: what offload keeps of a segment leaves for the host slower than the next segment runs (microseconds a "
                      "thousand tokens), so the device would wait; keep less, offload fewer blocks, widen the model, or say .even_if_slow()");
        static_assert(microseconds_to_leave > microseconds_of_forward || microseconds_to_return <= microseconds_of_backward,
                      "config.checkpoint: what offload keeps of a segment returns slower than the segment behind it runs back (microseconds a "
                      "thousand tokens), so the device would wait; keep less, offload fewer blocks, widen the model, or say .even_if_slow()");
    }
    return true;
}

}  // namespace longspan
