// SPDX-License-Identifier: Apache-2.0
//
// Whether what an offloading policy keeps can leave and return behind the work of a device, from work (model/pass_work.hpp) and rates
// (memory/device_rates.hpp):
//
//     bytes that a segment keeps / bytes per second  ≤  seconds of the next segment's forward
//
// and the same of what returns, against a backward. Both grow with the tokens, so that what decides is the width, and,
// where attention reaches far, the context. Attention counts documents as long as the context under the pattern that sees least.
// Where copies take longer, the device would wait for them in every block: the plan does not compile, unless the policy says
// `even_if_slow()`. A backend without `rates`, as the host, has one memory, and nothing waits. A config may name rates of its own:
//
//     static constexpr ls::device_rates rates{.products = 300e12, .attention = {.forward = 250e12, .backward = 200e12},
//                                             .to_host = 25e9, .from_host = 25e9};
#pragma once

#include <cstddef>
#include <utility>

#include <longspan/checkpoint/policy.hpp>
#include <longspan/memory/device_rates.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/decoder.hpp>
#include <longspan/model/pass_work.hpp>

namespace longspan {

/// Of the segment whose copies are hardest to hide, nanoseconds a token.
struct hiding {
    double leaves = 0, forward = 0;     ///< its bytes to the host; the forward beside it
    double returns = 0, backward = 0;   ///< its bytes back; what is made again, and backward, beside it

    [[nodiscard]] constexpr bool hides() const { return leaves <= forward && returns <= backward; }
};

namespace detail {

/// Keys that a query sees on average in documents as long as the context, under the pattern that sees least; 0 where that depends on
/// run-time values.
template <configuration Config>
[[nodiscard]] constexpr double least_keys() {
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
        double least = -1;
        const auto look = [&]<pattern P>() {
            double keys = 0;
            if constexpr (pairs_are_known<P>) keys = pairs_of_length<P, Config::shape.context> / static_cast<double>(Config::shape.context);
            least = least < 0 || keys < least ? keys : least;
        };
        (look.template operator()<pattern_at<attention_of<Config>, static_cast<index>(I)>>(), ...);
        return least;
    }(std::make_index_sequence<static_cast<std::size_t>(pattern_count<attention_of<Config>>)>{});
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
        // Of a whole batch, since a product reads its weights once; as nanoseconds a token.
        constexpr auto tokens = static_cast<double>(Config::batch.budget);
        constexpr double second = 1e9, keys = detail::least_keys<Config>();
        const auto nanoseconds = [&](const work& of_block) {
            const work_seconds takes = seconds_of<model>(of_block, rates);
            return second / tokens * (takes.total() - takes.launches);  // copies have starts, too
        };
        const double forward = nanoseconds(model_work<model>::forward(tokens, tokens * keys));
        const double backward = nanoseconds(model_work<model>::backward(tokens, tokens * keys));
        const stack_bytes one = decoder_memory<model, patterns, Backend>::stack(1);
        for (std::size_t i = 0; i < Policy::count; ++i) {
            const auto at = Policy::extent(i, Config::shape.layers);
            if (at.leaving() == 0) continue;
            const auto blocks = static_cast<double>(at.length);
            const double bytes_kept = static_cast<double>(one.stream) +
                                      blocks * static_cast<double>(one.saved.only([&](cost worth) { return worth >= at.from; }).peak(1));
            // Whatever is made again beside the backward.
            const hiding rule{second * seconds_of(bytes_kept, rates.to_host), blocks * forward, second * seconds_of(bytes_kept, rates.from_host),
                              blocks * backward};
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
        if constexpr (copies.leaves > copies.forward) {
            static_assert(microseconds_to_leave <= microseconds_of_forward,
                          "config.checkpoint: what offload keeps of a segment leaves for the host slower than the next segment runs (microseconds a "
                          "thousand tokens), so the device would wait; keep less, offload fewer blocks, widen the model, or say .even_if_slow()");
        } else {
            static_assert(microseconds_to_return <= microseconds_of_backward,
                          "config.checkpoint: what offload keeps of a segment returns slower than the segment behind it runs back (microseconds a "
                          "thousand tokens), so the device would wait; keep less, offload fewer blocks, widen the model, or say .even_if_slow()");
        }
    }
    return true;
}

}  // namespace longspan
