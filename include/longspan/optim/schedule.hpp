// SPDX-License-Identifier: Apache-2.0
//
// The learning rate as a function of where a run stands. A schedule is a small value; its stretches are counted in steps
// (updates) or in tokens. Count in tokens when the batch grows on the way: a phase with four times the tokens per update then
// goes through the schedule four times as fast, and the curve over data seen stays the same.
//
//   static constexpr auto schedule =
//       ls::warm_up{ls::in_steps(100)}.then(ls::cosine{.peak = 3e-3, .over = ls::in_steps(2000), .floor = 3e-4});
//
// All of it is constexpr and costs a few dozen flops per update. Past its end a schedule stays at its last value.
//
// References: Loshchilov and Hutter, "SGDR", arXiv:1608.03983 (cosine, warm restarts); Hu et al., "MiniCPM", arXiv:2404.06395
// (warm-up, stable, decay); Hägele et al., arXiv:2405.18392 (its 1 − √ decay); Malladi et al., arXiv:2205.10287 (√ batch rule).
#pragma once

#include <concepts>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/core/types.hpp>
#include <longspan/optim/detail/elementary.hpp>

namespace longspan {

/// What a stretch of a run is counted in.
enum class counted : unsigned char { in_steps, in_tokens };

/// A stretch of a run: so many steps, or so many tokens.
struct stretch {
    index count = 0;
    counted unit = counted::in_steps;

    /// How much of what it counts lies behind, at an update before which `step` updates and `tokens` tokens were done.
    [[nodiscard]] constexpr index behind(index step, index tokens) const { return unit == counted::in_steps ? step : tokens; }
};
[[nodiscard]] constexpr stretch in_steps(index count) { return {count, counted::in_steps}; }
[[nodiscard]] constexpr stretch in_tokens(index count) { return {count, counted::in_tokens}; }

/// A schedule: `learning_rate(step, tokens, batch)` for the update before which `step` updates and `tokens` tokens were done
/// and which consumes `batch` tokens itself (the effective batch: every micro-batch, every rank); `counts(unit)`, whether all
/// its stretches are in that unit; `check()`, which throws bad_argument with a sentence if its values make no sense.
template <class S>
concept schedule = std::copy_constructible<S> && requires(const S s, index n, counted unit) {
    { s.learning_rate(n, n, n) } -> std::convertible_to<double>;
    { s.counts(unit) } -> std::convertible_to<bool>;
    s.check();
};

/// The same rate always.
struct constant {
    double peak = 0;

    [[nodiscard]] constexpr double learning_rate(index, index, index = 0) const { return peak; }
    [[nodiscard]] constexpr bool counts(counted) const { return true; }
    constexpr constant check() const;
};

/// From `peak` down half a cosine to `floor`, which it keeps.
struct cosine {
    double peak = 0;
    stretch over = {};
    double floor = 0;

    [[nodiscard]] constexpr double learning_rate(index step, index tokens, index = 0) const {
        const double done = static_cast<double>(over.behind(step, tokens)) / static_cast<double>(over.count);
        return floor + (peak - floor) * detail::half_cosine(done < 1.0 ? done : 1.0);
    }
    [[nodiscard]] constexpr bool counts(counted unit) const { return over.unit == unit; }
    constexpr cosine check() const;
};

/// Cosines one after another, each starting at `peak` again: the first over `period`, each next `growth` times as long and
/// with `keep` times the peak's height above the floor.
struct cosine_restarts {
    double peak = 0;
    stretch period = {};
    index growth = 1;
    double keep = 1;
    double floor = 0;

    [[nodiscard]] constexpr double learning_rate(index step, index tokens, index = 0) const {
        index at = period.behind(step, tokens);
        index length = period.count, cycle = 0;
        if (growth == 1) {
            cycle = at / length;
            at %= length;
        }
        for (; at >= length; ++cycle) {
            at -= length;
            if (length <= INT64_MAX / growth) length *= growth;
        }
        const double done = static_cast<double>(at) / static_cast<double>(length);
        return floor + (peak - floor) * detail::power(keep, cycle) * detail::half_cosine(done);
    }
    [[nodiscard]] constexpr bool counts(counted unit) const { return period.unit == unit; }
    constexpr cosine_restarts check() const;
};

/// `peak` for a while, then down to `floor`: after a warm_up this is warm-up-stable-decay. A run may be continued from any point
/// of the stable part with a later decay.
struct stable_then_decay {
    enum class shape : unsigned char { linear, one_minus_root };

    double peak = 0;
    stretch stable = {}, decay = {};
    double floor = 0;
    shape along = shape::linear;

    [[nodiscard]] constexpr double learning_rate(index step, index tokens, index = 0) const {
        const index at = stable.behind(step, tokens) - stable.count;
        if (at <= 0) return peak;
        if (at >= decay.count) return floor;
        const double done = static_cast<double>(at) / static_cast<double>(decay.count);
        return floor + (peak - floor) * (1.0 - (along == shape::linear ? done : detail::square_root(done)));
    }
    [[nodiscard]] constexpr bool counts(counted unit) const { return stable.unit == unit && decay.unit == unit; }
    constexpr stable_then_decay check() const;
};

/// What warm_up::then gives.
template <schedule S>
struct warmed_up {
    stretch over = {};
    S rest;

    [[nodiscard]] constexpr double learning_rate(index step, index tokens, index batch = 0) const {
        const index done = over.behind(step + 1, tokens + batch);
        if (done < over.count)
            return rest.learning_rate(0, 0, batch) * static_cast<double>(done) / static_cast<double>(over.count);
        const index shift = over.count < over.behind(step, tokens) ? over.count : over.behind(step, tokens);
        return over.unit == counted::in_steps ? rest.learning_rate(step - shift, tokens, batch)
                                              : rest.learning_rate(step, tokens - shift, batch);
    }
    [[nodiscard]] constexpr bool counts(counted unit) const { return over.unit == unit && rest.counts(unit); }
    constexpr warmed_up check() const;
};

/// A linear rise from 0 to the first rate of what follows, which starts its own count after it. The first update already takes
/// a full share of the rise (the rate is in proportion to what will be done after the update), so none is wasted at rate 0.
struct warm_up {
    stretch over = {};

    template <schedule S>
    [[nodiscard]] constexpr warmed_up<S> then(S rest) const {
        if (over.count < 1) throw bad_argument("warm_up: expected to last at least 1, got " + std::to_string(over.count));
        // Where a warm-up in tokens ended is not known in steps afterwards.
        if (!rest.counts(over.unit)) throw bad_argument("warm_up: count it in the unit of what follows: steps, or tokens");
        return {over, rest};
    }
};

/// A schedule tuned at an effective batch of `reference` tokens, for any other batch: the rate times √(batch / reference), as
/// Adam's noise asks for, or times batch / reference.
template <schedule S>
struct scaled_by_batch {
    enum class rule : unsigned char { square_root, linear };

    S base;
    index reference = 0;
    rule by = rule::square_root;

    [[nodiscard]] constexpr double learning_rate(index step, index tokens, index batch) const {
        if (batch <= 0) throw bad_argument("scaled_by_batch: expected the tokens of the update, got " + std::to_string(batch));
        const double ratio = static_cast<double>(batch) / static_cast<double>(reference);
        return base.learning_rate(step, tokens, batch) * (by == rule::linear ? ratio : detail::square_root(ratio));
    }
    [[nodiscard]] constexpr bool counts(counted unit) const { return base.counts(unit); }
    constexpr scaled_by_batch check() const;
};

// --- what makes no sense: every test throws where its sentence stands, so that a compiler which evaluates it quotes the line ---

constexpr constant constant::check() const {
    if (!detail::sensible(peak, 0)) throw bad_argument("constant: expected a peak above 0, got " + detail::number(peak));
    return *this;
}

constexpr cosine cosine::check() const {
    using detail::number;
    if (!detail::sensible(peak, floor))
        throw bad_argument("cosine: expected 0 <= floor <= peak, peak > 0, got " + number(floor) + " and " + number(peak));
    if (over.count < 1) throw bad_argument("cosine: expected to last at least 1, got " + std::to_string(over.count));
    return *this;
}

constexpr cosine_restarts cosine_restarts::check() const {
    using detail::number;
    if (!detail::sensible(peak, floor))
        throw bad_argument("cosine_restarts: expected 0 <= floor <= peak, peak > 0, got " + number(floor) + " and " +
                           number(peak));
    if (period.count < 1)
        throw bad_argument("cosine_restarts: expected a period of at least 1, got " + std::to_string(period.count));
    if (growth < 1) throw bad_argument("cosine_restarts: expected a growth of at least 1, got " + std::to_string(growth));
    if (!(keep > 0.0 && keep <= 1.0)) throw bad_argument("cosine_restarts: expected 0 < keep <= 1, got " + number(keep));
    return *this;
}

constexpr stable_then_decay stable_then_decay::check() const {
    using detail::number;
    if (!detail::sensible(peak, floor))
        throw bad_argument("stable_then_decay: expected 0 <= floor <= peak, peak > 0, got " + number(floor) + " and " +
                           number(peak));
    if (stable.count < 0)
        throw bad_argument("stable_then_decay: expected to be stable for at least 0, got " + std::to_string(stable.count));
    if (decay.count < 1)
        throw bad_argument("stable_then_decay: expected to decay over at least 1, got " + std::to_string(decay.count));
    if (stable.unit != decay.unit) throw bad_argument("stable_then_decay: count both stretches in steps or both in tokens");
    return *this;
}

template <schedule S>
constexpr warmed_up<S> warmed_up<S>::check() const {
    return warm_up{over}.then(rest.check());
}

template <schedule S>
constexpr scaled_by_batch<S> scaled_by_batch<S>::check() const {
    base.check();
    if (reference < 1)
        throw bad_argument("scaled_by_batch: expected a reference of at least 1 token, got " + std::to_string(reference));
    return *this;
}

}  // namespace longspan
