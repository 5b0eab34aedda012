// SPDX-License-Identifier: Apache-2.0
//
// What fits. Of policies and token budgets, the one that fits into so many bytes and makes the least again:
//
//     using config = ls::fit<base, ls::cuda::device, 80 * ls::GiB, 524288, ls::budgets<131072, 65536, 32768>>;
//
// is `base` with the checkpoint and batch so chosen, 524,288 tokens a step. `longest<base, device, bytes>` is the largest budget that
// fits under base's own policy. And what to say of a plan that does not fit: where its bytes go, and which budget would do. All follow
// from the plan alone, as values, without instantiating anything per budget.
#pragma once

#include <cstddef>
#include <string>
#include <tuple>
#include <type_traits>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/checkpoint/reversible.hpp>
#include <longspan/checkpoint/selective.hpp>
#include <longspan/memory/describe.hpp>
#include <longspan/model/plan.hpp>

namespace longspan {

/// Policies to choose from. Each says of how many blocks it makes the tensors of a cost twice.
template <auto... Policies>
struct policy_list {
    static constexpr bool counted = (requires { Policies.made_again(cost::product, index{1}); } && ...);
    static_assert(counted, "policies: one of them does not say what it makes twice; it needs a `made_again(cost, blocks)` as "
                           "ls::segment_policy has");
};
template <auto... Policies>
inline constexpr policy_list<Policies...> policies{};

/// Token budgets of a micro-batch to choose from.
template <index... Budgets>
struct budget_list {};
template <index... Budgets>
inline constexpr budget_list<Budgets...> budgets{};

/// One policy at one budget, and what it takes.
struct fitting {
    index policy = -1;         ///< its place in the list; −1: none fits
    index tokens = 0;          ///< of a micro-batch
    index micro_batches = 0;   ///< of a step
    bytes peak = 0;
    bytes pinned = 0;          ///< of host memory, beside it
    double made_again = 0;     ///< floating-point operations a token that a step makes twice
};

/// Operations a token which Policy makes twice in Config's model: those of the forecast (model/pass_work.hpp), in documents as long as the
/// context.
template <configuration Config, class Policy>
[[nodiscard]] constexpr double made_again() {
    return made_again_of<Config, Policy>(1, mean_keys<Config>).operations();
}

namespace detail {

template <configuration Config>
[[nodiscard]] constexpr index pieces_at(index tokens) {
    if constexpr (requires { batching_of<Config>::pieces_for(tokens); }) return batching_of<Config>::pieces_for(tokens);
    else return Config::batch.max_pieces;
}

/// Batches that are padded hold whole rows.
template <configuration Config>
inline constexpr bool in_rows = [] {
    if constexpr (requires { batching_of<Config>::fills; }) return batching_of<Config>::fills == filling::padded;
    else return false;
}();
template <configuration Config>
[[nodiscard]] constexpr index whole_rows(index tokens) {
    return in_rows<Config> ? tokens - tokens % Config::shape.context : tokens;
}

/// Whether a batch of that budget can hold a piece as long as the context, and a padded one whole rows with two pieces each.
template <configuration Config>
[[nodiscard]] constexpr bool serves(index tokens) {
    const index context = Config::shape.context;
    return tokens >= context && (!in_rows<Config> || (tokens % context == 0 && 2 * (tokens / context) <= pieces_at<Config>(tokens)));
}

template <configuration Config, class Backend>
[[nodiscard]] constexpr bytes peak_at(index tokens, policy_plan policy) {
    return step_layout<Config, Backend>(tokens, pieces_at<Config>(tokens), policy).peak(Backend::alignment);
}

/// Whether a policy can run Config's stack; one that does not say so can.
template <configuration Config, class Policy>
[[nodiscard]] consteval bool covers_stack() {
    if constexpr (requires { Policy::covers(Config::shape.layers); }) return Policy::covers(Config::shape.layers);
    else return true;
}

template <configuration Config, class Policy>
[[nodiscard]] consteval bool has_streams_for() {
    if constexpr (requires { Policy::needs_two_streams; }) return Config::shape.streams() == 2;
    else return true;
}

template <auto Wanted, auto... Policies>
[[nodiscard]] consteval auto policy_at(policy_list<Policies...>) {
    return std::get<static_cast<std::size_t>(Wanted)>(std::tuple{Policies...});
}

}  // namespace detail

/// Of the policies at the budgets, the one within `room` bytes that makes the least again; of several the largest budget. Policies under
/// which the device would wait for copies (model/hiding.hpp) are passed over; how much host memory others take is not asked. With it as
/// many micro-batches as give `step_tokens` tokens or more (0: one). Where gradients are used bucket by bucket a budget serves only if it
/// gives them in one.
template <configuration Config, class Backend, auto... Policies, index... Budgets>
[[nodiscard]] constexpr fitting choose(bytes room, index step_tokens, policy_list<Policies...>, budget_list<Budgets...>) {
    static_assert((detail::covers_stack<Config, std::remove_cvref_t<decltype(Policies)>>() && ...),
                  "policies: the for_blocks<n>() of one of them name more blocks than config.shape.layers has, or leave some to none");
    static_assert((detail::has_streams_for<Config, std::remove_cvref_t<decltype(Policies)>>() && ...),
                  "policies: ls::reversible takes a model of two streams: config.shape.residual = ls::residual_kind::two_streams");
    constexpr policy_plan plans[] = {&std::remove_cvref_t<decltype(Policies)>::plan...};
    constexpr double again[] = {made_again<Config, std::remove_cvref_t<decltype(Policies)>>()...};
    constexpr bool hidden[] = {hides_or_may_wait<Config, Backend, std::remove_cvref_t<decltype(Policies)>>()...};
    constexpr pinned_plan away[] = {&pinned_layout<Config, Backend, std::remove_cvref_t<decltype(Policies)>>...};
    fitting best;
    for (index p = 0; p < static_cast<index>(sizeof...(Policies)); ++p) {
        for (const index tokens : {Budgets...}) {
            const bool better = best.policy < 0 || again[p] < best.made_again ||
                                (again[p] == best.made_again && tokens > best.tokens);
            if (!better || !hidden[p] || !detail::serves<Config>(tokens)) continue;
            if (update_of<Config>::in_buckets && step_tokens > tokens) continue;  // a step is one micro-batch
            const bytes peak = detail::peak_at<Config, Backend>(tokens, plans[p]);
            if (peak > room) continue;
            best = {p, tokens, step_tokens > tokens ? ceil_div(step_tokens, tokens) : 1, peak, away[p](tokens).peak(Backend::alignment), again[p]};
        }
    }
    return best;
}

/// The policies that `fit` takes unless told otherwise: everything kept, and less and less of it.
inline constexpr auto usual_policies = policies<store_all, selective_products, selective, recompute_every<1>, recompute_root>;

/// And where there are two streams.
inline constexpr auto usual_policies_of_two_streams =
    policies<store_all, selective_products, selective, recompute_every<1>, recompute_root, reversible>;
template <configuration Config>
inline constexpr auto usual_policies_of = [] {
    if constexpr (Config::shape.streams() == 2) return usual_policies_of_two_streams;
    else return usual_policies;
}();

/// Config with the checkpoint and the batch that fit into Room bytes of Backend, for steps of StepTokens tokens or a little more.
/// `chosen` says what was taken.
template <configuration Config, class Backend, bytes Room, index StepTokens = Config::batch.budget * Config::batch.micro_batches,
          auto Budgets = budgets<Config::batch.budget>, auto Policies = usual_policies_of<Config>>
struct fit : Config {
    static constexpr fitting chosen = choose<Config, Backend>(Room, StepTokens, Policies, Budgets);
    static constexpr bool found = chosen.policy >= 0;
    static_assert(found,
                  "fit: none of the policies at any of the budgets fits into the room; budgets are at least the context, and "
                  "longest<config, backend, room> says how many tokens would fit");
    static constexpr auto checkpoint = detail::policy_at<(found ? chosen.policy : 0)>(Policies);
    static constexpr auto batch = Config::batch.template tokens<(found ? chosen.tokens : Config::batch.budget)>()
                                      .template accumulate<(found ? chosen.micro_batches : 1)>();
};

namespace detail {

/// Between a budget that fits into `room` bytes and one that does not, the last that fits.
template <configuration Config, class Backend>
[[nodiscard]] constexpr index last_within(bytes room, index fitting, index too_many) {
    const auto takes = [](index tokens) { return peak_at<Config, Backend>(tokens, &checkpoint_of<Config>::plan); };
    bytes least = takes(fitting), most = takes(too_many);
    // Bytes are all but proportional to tokens: a guess on the line between the two is off by a few, and every third is in the middle.
    for (int round = 1; too_many - fitting > 1; ++round) {
        const double part = round % 3 == 0 ? 0.5 : static_cast<double>(room - least) / static_cast<double>(most - least);
        index tokens = fitting + static_cast<index>(part * static_cast<double>(too_many - fitting));
        if (round % 3 == 2) ++tokens;  // from above, if the guess before came from below
        tokens = tokens <= fitting ? fitting + 1 : tokens >= too_many ? too_many - 1 : tokens;
        const bytes size = takes(tokens);
        if (size <= room) fitting = tokens, least = size;
        else too_many = tokens, most = size;
    }
    return fitting;
}

}  // namespace detail

/// The largest budget of a micro-batch at which a step of Config's model and policy takes at most `room` bytes, in whole rows where
/// batches are padded; 0 when none does. Less than the context means that the context does not fit.
template <configuration Config, class Backend>
[[nodiscard]] constexpr index longest_within(bytes room) {
    const auto fits = [&](index tokens) { return detail::peak_at<Config, Backend>(tokens, &checkpoint_of<Config>::plan) <= room; };
    if (!fits(1)) return 0;
    index fitting = 1, too_many = index{1} << 20;
    for (; fits(too_many); too_many *= 16) fitting = too_many;
    return detail::whole_rows<Config>(detail::last_within<Config, Backend>(room, fitting, too_many));
}

/// The same as a constant. Evaluates the plan about ten times.
template <configuration Config, class Backend, bytes Room>
inline constexpr index longest = longest_within<Config, Backend>(Room);

/// The same, but no more than Config's own budget, which is taken as it is if it fits.
template <configuration Config, class Backend>
[[nodiscard]] constexpr index budget_within(bytes room) {
    const auto fits = [&](index tokens) { return detail::peak_at<Config, Backend>(tokens, &checkpoint_of<Config>::plan) <= room; };
    if (fits(Config::batch.budget)) return Config::batch.budget;
    return fits(1) ? detail::whole_rows<Config>(detail::last_within<Config, Backend>(room, 1, Config::batch.budget)) : 0;
}

/// The plan's table and, where the room is known, a sentence on the nearest budget that fits.
template <class Config, class Backend>
[[nodiscard]] std::string advice_for(bytes room) {
    std::string text = describe(plan<Config, Backend>);
    if (room < 0) return text;
    const index budget = budget_within<Config, Backend>(room), context = Config::shape.context;
    const auto grouped = [](index number) { return detail::grouped_bytes(number); };
    if (budget == 0) {
        text += "no budget fits into " + grouped(room) + " bytes: what stays from step to step takes " +
                grouped(plan<Config, Backend>.parameters);
        return detail::in_rows<Config> ? text + ", and the least batch is one row of " + grouped(context) + " tokens" : text;
    }
    text += "the nearest budget that fits is " + grouped(budget) + " tokens, and config.batch names " + grouped(Config::batch.budget);
    if (budget < context) text += "; that is less than the context of " + grouped(context) + ", which must be shorter too, or the policy keep less";
    return text;
}

}  // namespace longspan
