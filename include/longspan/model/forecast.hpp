// SPDX-License-Identifier: Apache-2.0
//
// What a step is expected to take, before it is run and on a device that need not be there: operations, bytes, seconds by what takes them,
// and how many tokens so many hours make.
//
//     constexpr auto f = ls::forecast<config, ls::cuda::device>();           // at the rates of the backend, or of the config
//     static_assert(f.tokens_in(24) > 40e9);
//     std::cout << ls::describe(ls::forecast<config, ls::cuda::device>(ls::h200, lengths));
//
// Seconds are work (model/work.hpp) over rates (memory/device_rates.hpp), one op after the other:
//
//     products    (operations + 2 · depth · edge) / products + exposed · bytes / memory
//     attention   operations of (live keys + edge) / the rate of the heads' width, forward and backward
//     passes      bytes / memory
//     launches    kernels · launch
//     waits       what copies to and from the host take longer than the blocks that hide them
//
// Counted twice is what runs twice: what the policy makes again, and every pass where a norm is asked of an update by bucket. Batches are
// full. What it does not know: how fast a product of an odd shape is, dropout in attention, and what clocks do under load.
// docs/forecast.md holds its error.
#pragma once

#include <cstdio>
#include <span>
#include <string>

#include <longspan/core/error.hpp>
#include <longspan/memory/describe.hpp>
#include <longspan/model/plan.hpp>

namespace longspan {

/// One optimizer step of a configuration on a device.
struct step_forecast {
    const char* device = "";
    index tokens = 0;          ///< of the step, all micro-batches
    work useful{}, again{}, update{};
    double host_bytes = 0;     ///< that leave for pinned memory; as many return
    work_seconds useful_seconds{}, again_seconds{}, update_seconds{};
    double waits = 0;          ///< seconds in which the device has nothing to do but copies

    [[nodiscard]] constexpr double seconds() const {
        return useful_seconds.total() + again_seconds.total() + update_seconds.total() + waits;
    }
    [[nodiscard]] constexpr double tokens_per_second() const { return static_cast<double>(tokens) / seconds(); }
    [[nodiscard]] constexpr double tokens_in(double hours) const { return 3600 * hours * tokens_per_second(); }
    /// Useful operations a second.
    [[nodiscard]] constexpr double rate() const { return useful.operations() / seconds(); }
};

/// What becomes of gradients and parameters between two batches: gradients are zeroed, measured, and used.
template <configuration Config>
[[nodiscard]] constexpr work work_of_update() {
    using parameters = parameters_of_config<Config>;
    using precision = typename parameters::precision;
    using update = update_of<Config>;
    constexpr double size = parameters::size, weight = bytes_of<precision, role::weight>, sum = bytes_of<precision, role::parameter_gradient>;
    constexpr double master = parameters::has_master ? bytes_of<precision, role::master> : 0;
    constexpr double moment = sizeof(typename parameters::moment) + (parameters::in_eight_bits ? 4.0 / eight_bit::block : 0);
    constexpr double kept = update::in_bf16 ? sizeof(bf16) : sum;   // of a gradient, as the update reads it
    constexpr double batches = Config::batch.micro_batches, passes = passes_of_step<Config>, buckets = parameters::buckets;
    // Weights are written, and read where they are their own masters; masters and moments are read and written.
    double moved = weight * (parameters::has_master ? 1 : 2) + 2 * master + 4 * moment + kept;
    double kernels = update::in_buckets ? buckets : 1;
    moved += passes * kept + passes * (update::through_a_room && !update::in_bf16 ? sum : kept);  // measured, zeroed
    kernels += 2 * passes * (update::through_a_room ? buckets : 1);
    if (update::in_bf16) moved += batches * (2 * sum + 2 * kept), kernels += 2 * batches * buckets;  // a room zeroed, and added to the sums
    return {.pass_bytes = size * moved, .kernels = kernels};
}

/// One step of Config on Backend at these rates, with documents of these lengths in every micro-batch: by default as long as the
/// context, end to end. Of patterns with run-time values a query is taken to see every token up to its own. Throws bad_argument where
/// neither the config nor the backend names rates and none are given.
template <configuration Config, class Backend>
    requires(check_config<Config>())
[[nodiscard]] constexpr step_forecast forecast(const device_rates& rates = detail::rates_of<Config, Backend>(), std::span<const index> lengths = {}) {
    using model = model_of_config<Config>;
    constexpr double batches = Config::batch.micro_batches, passes = passes_of_step<Config>;
    expects(rates.products > 0, [] {
        return std::string("forecast: nobody said what this device does in a second; give rates, as ls::h200, or config.rates (bench_cuda_calibrate "
                           "measures them)");
    });
    const pass_work pass = work_of_pass<Config>(pairs_of_batch<Config>(lengths));
    step_forecast f{.device = rates.name, .tokens = Config::batch.budget * Config::batch.micro_batches};
    f.useful = batches * pass.useful();
    f.again = batches * passes * pass.again + batches * (passes - 1) * pass.useful();
    f.update = work_of_update<Config>();
    f.useful_seconds = seconds_of<model>(f.useful, rates);
    f.again_seconds = seconds_of<model>(f.again, rates);
    f.update_seconds = seconds_of<model>(f.update, rates);

    const double leaves = static_cast<double>(pinned_layout<Config, Backend>(Config::batch.budget).peak(Backend::alignment));
    const auto late = [&](double rate, const work& beside) {
        const double wait = seconds_of(leaves, rate) - seconds_of<model>(beside, rates).total();
        return wait > 0 ? wait : 0;
    };
    f.host_bytes = batches * passes * leaves;
    f.waits = batches * passes * (late(rates.to_host, pass.forward) + late(rates.from_host, pass.backward + pass.again));
    return f;
}

/// At the rates of the config or the backend, with documents of these lengths.
template <configuration Config, class Backend>
    requires(check_config<Config>())
[[nodiscard]] constexpr step_forecast forecast(std::span<const index> lengths) {
    return forecast<Config, Backend>(detail::rates_of<Config, Backend>(), lengths);
}

/// A table: what there is to do, and the seconds it is expected to take.
[[nodiscard]] inline std::string describe(const step_forecast& f) {
    std::string out;
    char line[160];
    const auto row = [&](const char* what, double amount, const char* unit, double seconds) {
        if (amount == 0 && seconds == 0) return;
        std::snprintf(line, sizeof line, "  %-34s %12.4g %-10s %12.4g s %5.1f %%\n", what, amount, unit, seconds, 100 * seconds / f.seconds());
        out += line;
    };
    const auto rows = [&](const char* suffix, const work& w, const work_seconds& s) {
        row(("dense products" + std::string(suffix)).c_str(), w.products, "operations", s.products);
        row(("attention" + std::string(suffix)).c_str(), w.attention_forward + w.attention_backward, "operations", s.attention);
        row(("passes over memory" + std::string(suffix)).c_str(), w.pass_bytes, "bytes", s.passes);
        row(("starts" + std::string(suffix)).c_str(), w.kernels, "kernels", s.launches);
    };
    out += "a step of " + detail::grouped_bytes(f.tokens) + " tokens, forecast for " + (*f.device ? f.device : "a device without a name") + "\n";
    rows("", f.useful, f.useful_seconds);
    rows(", made again", f.again, f.again_seconds);
    row("update", f.update.pass_bytes, "bytes", f.update_seconds.passes);
    row("starts of the update", f.update.kernels, "kernels", f.update_seconds.launches);
    row("copies to the host, and back", f.host_bytes, "bytes", f.waits);
    std::snprintf(line, sizeof line, "  %-34s %12.4g %-10s %12.4g s\n", "in all", f.tokens_per_second(), "tokens/s", f.seconds());
    return out += line;
}

}  // namespace longspan
