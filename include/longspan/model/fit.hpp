// SPDX-License-Identifier: Apache-2.0
//
// What to say of a plan that does not fit: where its bytes go, and which budget would do. Both follow from the plan alone, at run
// time, without instantiating anything per candidate.
#pragma once

#include <string>

#include <longspan/memory/describe.hpp>
#include <longspan/model/plan.hpp>

namespace longspan {

/// The budget nearest to Config's, and not above it, at which one step of its model and policy takes at most `room` bytes; 0 when
/// none does. Evaluates the plan some 20 times.
template <configuration Config, class Backend>
[[nodiscard]] constexpr index budget_within(bytes room) {
    const auto fits = [&](index tokens) { return step_layout<Config, Backend>(tokens, Config::batch.max_pieces).peak(Backend::alignment) <= room; };
    if (fits(Config::batch.budget)) return Config::batch.budget;
    index fitting = 0, too_many = Config::batch.budget;
    while (too_many - fitting > 1) {
        const index middle = fitting + (too_many - fitting) / 2;
        (fits(middle) ? fitting : too_many) = middle;
    }
    return fitting;
}

/// The plan's table and, where the room is known, a sentence on the nearest budget that fits.
template <class Config, class Backend>
[[nodiscard]] std::string advice_for(bytes room) {
    std::string text = describe(plan<Config, Backend>);
    if (room < 0) return text;
    const index budget = budget_within<Config, Backend>(room), context = Config::shape.context;
    const auto grouped = [](index number) { return detail::grouped_bytes(number); };
    if (budget == 0)
        return text + "no budget fits into " + grouped(room) + " bytes: what stays from step to step takes " + grouped(plan<Config, Backend>.parameters);
    text += "the nearest budget that fits is " + grouped(budget) + " tokens, and config.batch names " + grouped(Config::batch.budget);
    if (budget < context) text += "; that is less than the context of " + grouped(context) + ", which must be shorter too, or the policy keep less";
    return text;
}

}  // namespace longspan
