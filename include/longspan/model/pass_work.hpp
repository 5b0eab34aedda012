// SPDX-License-Identifier: Apache-2.0
//
// The work of one micro-batch, forward and back under a policy (model/work.hpp adds up its parts), the pairs of its documents that the
// patterns of its layers see (pattern/live_pairs.hpp), and the seconds that work takes at a device's rates:
//
//     seconds_of<model>(work_of_pass<config>(pairs_of_batch<config>()).all(), ls::h200).total()
//
// The plan's `fit`, whether copies hide, and the forecast of a step all count by it.
#pragma once

#include <cstddef>
#include <span>
#include <string>
#include <utility>

#include <longspan/core/error.hpp>
#include <longspan/memory/device_rates.hpp>
#include <longspan/model/config.hpp>
#include <longspan/model/work.hpp>
#include <longspan/pattern/live_pairs.hpp>
#include <longspan/pattern/stack.hpp>

namespace longspan {

namespace detail {

/// Pairs that P sees in documents; where that hangs on run-time values, as many as a causal pattern does.
template <pattern P>
[[nodiscard]] constexpr double pairs_or_causal(index length) {
    if constexpr (pairs_are_known<P>) return live_pairs<P>(length);
    else return static_cast<double>(length) * static_cast<double>(length + 1) / 2;
}
/// Once per pattern and length, whoever asks.
template <pattern P, index Length>
inline constexpr double pairs_of_length = pairs_or_causal<P>(Length);

}  // namespace detail

/// Mean over Config's layers of what f<P>() says of a layer's pattern P.
template <configuration Config, class F>
[[nodiscard]] constexpr double mean_of_layers(F&& f) {
    using patterns = attention_of<Config>;
    constexpr index layers = Config::shape.layers, count = pattern_count<patterns>;
    return [&]<std::size_t... I>(std::index_sequence<I...>) {
        const auto share = [](index i) { return static_cast<double>(layers / count + (i < layers % count ? 1 : 0)) / static_cast<double>(layers); };
        return (0.0 + ... + (share(I) * f.template operator()<pattern_at<patterns, static_cast<index>(I)>>()));
    }(std::make_index_sequence<static_cast<std::size_t>(count)>{});
}

/// Keys that a query of Config's model sees on average, in documents as long as the context.
template <configuration Config>
inline constexpr double mean_keys = mean_of_layers<Config>([]<pattern P>() {
    return detail::pairs_of_length<P, Config::shape.context> / static_cast<double>(Config::shape.context);
});

/// Pairs of a layer in one micro-batch of documents of these lengths; without any, of documents as long as the context. Throws bad_argument
/// where they do not fit.
template <configuration Config>
[[nodiscard]] constexpr double pairs_of_batch(std::span<const index> lengths = {}) {
    constexpr index context = Config::shape.context, tokens = Config::batch.budget;
    index left = tokens;
    for (const index length : lengths) {
        expects<bad_argument>(length >= 0 && length <= context && length <= left, [&] {
            return "documents of a micro-batch: expected lengths from 0 to the context of " + std::to_string(context) + ", together no more than the budget of " +
                   std::to_string(tokens) + " tokens, got a length of " + std::to_string(length) + " where " + std::to_string(left) + " were left";
        });
        left -= length;
    }
    return mean_of_layers<Config>([&]<pattern P>() {
        double pairs = 0;
        for (const index length : lengths) pairs += detail::pairs_or_causal<P>(length);
        if (!lengths.empty()) return pairs;
        return static_cast<double>(tokens / context) * detail::pairs_of_length<P, context> + detail::pairs_of_length<P, tokens % context>;
    });
}

/// One micro-batch, forward and back.
struct pass_work {
    work forward, backward;  ///< of all blocks
    work again;              ///< made again by the policy
    work ends;               ///< embedding, head and loss

    [[nodiscard]] constexpr work useful() const { return forward + backward + ends; }
    [[nodiscard]] constexpr work all() const { return useful() + again; }
};

/// What Policy makes again in a micro-batch of so many tokens; nothing of policies that do not say.
template <configuration Config, class Policy = checkpoint_of<Config>>
[[nodiscard]] constexpr work made_again_of(double tokens, double pairs) {
    work again;
    if constexpr (requires { Policy::made_again(cost::product, index{1}); }) {
        for (const cost made : {cost::expansion, cost::product, cost::attention, cost::output}) {
            again += static_cast<double>(Policy::made_again(made, Config::shape.layers)) *
                     model_work<model_of_config<Config>>::forward(made, tokens, pairs);
        }
    }
    return again;
}

template <configuration Config, class Policy = checkpoint_of<Config>>
[[nodiscard]] constexpr pass_work work_of_pass(double pairs) {
    using model = model_work<model_of_config<Config>>;
    constexpr double tokens = Config::batch.budget, layers = Config::shape.layers;
    pass_work w{layers * model::forward(tokens, pairs), layers * model::backward(tokens, pairs), made_again_of<Config, Policy>(tokens, pairs),
                model::ends(tokens)};
    if constexpr (!requires { Policy::needs_two_streams; }) w.forward += layers * model::handed_on(tokens);
    return w;
}

/// Seconds of work, by what takes them.
struct work_seconds {
    double products = 0, attention = 0, passes = 0, launches = 0;
    [[nodiscard]] constexpr double total() const { return products + attention + passes + launches; }
};

/// What Model's work takes at a device's rates: everything one after the other.
template <class Model>
[[nodiscard]] constexpr work_seconds seconds_of(const work& w, const device_rates& rates) {
    const attention_rates heads = rates.attention_of(Model::shape.head());
    const double edge = 4.0 * static_cast<double>(Model::shape.query_width());  // operations of a key more, forward
    const double products = w.products + 2 * rates.product_edge * w.product_depths;
    return {.products = seconds_of(products, rates.products_of<typename Model::precision>()) + seconds_of(rates.exposed * w.product_bytes, rates.memory),
            .attention = seconds_of(w.attention_forward + w.forward_queries * edge * heads.forward_edge, heads.forward) +
                         seconds_of(w.attention_backward + 2.5 * w.backward_queries * edge * heads.backward_edge, heads.backward),
            .passes = seconds_of(w.pass_bytes, rates.memory),
            .launches = w.kernels * rates.launch};
}

}  // namespace longspan
