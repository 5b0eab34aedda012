// SPDX-License-Identifier: Apache-2.0
//
// A forecast against the same in plain numbers, and against what must not be otherwise: more work takes longer, a faster device less.
#include <string>
#include <vector>

#include <doctest/doctest.h>

#include <longspan/cuda/device.hpp>
#include <longspan/model/forecast.hpp>

#include "configs.hpp"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's
using device = ls::cuda::device;

template <auto Policy = ls::store_all, auto Update = ls::usual_update, index Batches = 1>
struct small : models::config<models::llama, models::local, Policy, ls::mixed<ls::bf16>> {
    static constexpr auto batch = ls::packed<models::budget>.template pieces<16>().template accumulate<Batches>();
    static constexpr auto update = Update;
};

/// 875 million parameters.
template <auto Policy = ls::store_all, index Tokens = 32768, auto Attention = ls::causal & ls::window<1024>>
struct b {
    static constexpr auto shape = ls::decoder_shape{.layers = 16, .width = 2048, .heads = 16, .hidden = 5504, .vocabulary = 32000,
                                                    .context = 32768, .loss_chunk = 4096};
    static constexpr auto attention = Attention;
    static constexpr auto checkpoint = Policy;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<Tokens>;
};
template <auto Policy>
struct on_a_slow_bus : b<Policy> {
    static constexpr ls::device_rates rates{.products = 700e12, .attention = {.forward = 600e12, .backward = 500e12},
                                            .to_host = 5e9, .from_host = 20e9};
};

template <class Config>
constexpr double seconds = ls::forecast<Config, device>().seconds();
template <class Config>
constexpr double size = ls::parameters_of_config<Config>::size;

constexpr auto narrow = ls::moments<ls::eight_bit>.without_masters();

}  // namespace

TEST_CASE("forecast: a step is its passes and its update") {
    using config = small<ls::recompute_every<1>, ls::usual_update, 3>;
    const ls::pass_work pass = ls::work_of_pass<config>(ls::pairs_of_batch<config>());
    constexpr ls::step_forecast f = ls::forecast<config, device>();
    CHECK(f.tokens == 3 * models::budget);
    CHECK(f.useful.operations() == doctest::Approx(3 * pass.useful().operations()));
    CHECK(f.useful.products == doctest::Approx(ls::dense_flops_per_token<config> * 3 * models::budget));
    CHECK(f.again.operations() == doctest::Approx(3 * pass.again.operations()));
    CHECK(f.seconds() == doctest::Approx(f.useful_seconds.total() + f.again_seconds.total() + f.update_seconds.total()));
    CHECK(f.tokens_per_second() == doctest::Approx(3 * models::budget / f.seconds()));
    CHECK(f.tokens_in(2) == doctest::Approx(7200 * f.tokens_per_second()));
    CHECK(f.rate() == doctest::Approx(f.useful.operations() / f.seconds()));
    CHECK(std::string(f.device) == "H200");
}

TEST_CASE("forecast: a second pass, by bucket with a norm") {
    using once = small<ls::selective, narrow.by_bucket()>;
    using twice = small<ls::selective, narrow.by_bucket().with_norm()>;
    constexpr ls::step_forecast one = ls::forecast<once, device>(), two = ls::forecast<twice, device>();
    CHECK(two.useful.operations() == one.useful.operations());
    CHECK(two.again.operations() == doctest::Approx(one.useful.operations() + 2 * one.again.operations()));
    CHECK(two.again.pass_bytes == doctest::Approx(one.useful.pass_bytes + 2 * one.again.pass_bytes));
    // The plan says the same of the one that has no norm yet.
    constexpr ls::norm_costs costs = ls::plan<once, device>.norm;
    CHECK(costs.second_pass * models::budget == doctest::Approx(one.useful.operations() + one.again.operations()));
    // Or gradients kept whole: what the plan with them takes more.
    using whole = small<ls::selective, narrow>;
    using rounded = small<ls::selective, narrow.bf16_gradients()>;
    const auto parameters = []<class Config>() { return ls::parameters_of_config<Config>::memory().peak(1); };
    CHECK(costs.gradients == parameters.operator()<whole>() - parameters.operator()<once>());
    CHECK(costs.bf16_gradients == parameters.operator()<rounded>() - parameters.operator()<once>());
    CHECK(ls::plan<twice, device>.norm.gradients == costs.gradients);
    CHECK(ls::plan<whole, device>.norm.second_pass == 0);
    CHECK(ls::describe(ls::plan<once, device>).find("\na global norm takes ") != std::string::npos);
    CHECK(ls::describe(ls::plan<whole, device>).find("global norm") == std::string::npos);
}

TEST_CASE("forecast: bytes of an update") {
    // Weight written, master and moments read and written, gradient read, measured, zeroed.
    CHECK(ls::work_of_update<small<>>().pass_bytes == doctest::Approx(size<small<>> * (2 + 8 + 16 + 4 + 4 + 4)));
    using eight = small<ls::store_all, narrow>;
    CHECK(ls::work_of_update<eight>().pass_bytes == doctest::Approx(size<eight> * (4 + 4 * (1 + 4.0 / 256) + 4 + 4 + 4)));
    using rounded = small<ls::store_all, narrow.bf16_gradients(), 5>;
    CHECK(ls::work_of_update<rounded>().pass_bytes == doctest::Approx(size<rounded> * (4 + 4 * (1 + 4.0 / 256) + 2 + 2 + 2 + 5 * (8 + 4))));
    using buckets = small<ls::store_all, narrow.by_bucket().with_norm()>;
    CHECK(ls::work_of_update<buckets>().pass_bytes == doctest::Approx(size<buckets> * (4 + 4 * (1 + 4.0 / 256) + 4 + 2 * (4 + 4))));
}

TEST_CASE("forecast: documents' lengths") {
    constexpr ls::index whole[] = {97, 34}, short_ones[] = {33, 0, 1, 64, 2, 17};
    constexpr ls::device_rates rates = ls::h200;
    const ls::step_forecast told = ls::forecast<small<>, device>(rates, whole), usual = ls::forecast<small<>, device>();
    CHECK(told.seconds() == doctest::Approx(usual.seconds()));
    const ls::step_forecast less = ls::forecast<small<>, device>(rates, short_ones);
    CHECK(less.useful.attention_forward < told.useful.attention_forward);
    CHECK(less.useful.products == told.useful.products);
    CHECK(less.seconds() < told.seconds());
    for (const std::vector<ls::index>& bad : {std::vector<ls::index>{97, 35}, {98}, {50, -1}}) {
        CHECK_THROWS_AS((void)(ls::forecast<small<>, device>(rates, bad)), ls::bad_argument);
    }
}

TEST_CASE("forecast: what copies take longer than the blocks beside them, the device waits") {
    using slow = on_a_slow_bus<ls::offload<ls::selective>.even_if_slow()>;
    constexpr ls::step_forecast f = ls::forecast<slow, device>();
    const double leaves = static_cast<double>(ls::plan<slow, device>.pinned);
    const ls::pass_work pass = ls::work_of_pass<slow>(ls::pairs_of_batch<slow>());
    using model = ls::model_of_config<slow>;
    const double forward = ls::seconds_of<model>(pass.forward, slow::rates).total();
    const double backward = ls::seconds_of<model>(pass.backward + pass.again, slow::rates).total();
    CHECK(f.host_bytes == leaves);
    CHECK(leaves / 20e9 < backward);  // so that one direction waits and the other does not
    CHECK(f.waits == doctest::Approx(leaves / 5e9 - forward));
    CHECK(ls::forecast<b<ls::offload<ls::recompute_every<1>>>, device>().waits == 0);
    CHECK(ls::forecast<b<>, device>().host_bytes == 0);
}

TEST_CASE("forecast: more to do takes longer, a faster device less") {
    static_assert(seconds<b<>> < seconds<b<ls::selective_products>>);
    static_assert(seconds<b<ls::selective_products>> < seconds<b<ls::selective>>);
    static_assert(seconds<b<ls::selective>> < seconds<b<ls::recompute_every<1>>>);
    static_assert(seconds<b<>> < seconds<b<ls::store_all, 32768, ls::causal>>);
    static_assert(seconds<b<>> < seconds<b<ls::store_all, 65536>>);
    using config = b<ls::offload<ls::selective>>;
    const auto with = [](auto change) {
        ls::device_rates rates = ls::h200;
        rates.launch = 1e-6;
        change(rates);
        return ls::forecast<config, device>(rates).seconds();
    };
    const double usual = with([](ls::device_rates&) {});
    // Any rate that is dropped from the sum is seen here.
    CHECK(with([](ls::device_rates& r) { r.products *= 2; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.product_edge = 0; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.exposed = 0; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.attention.forward *= 2; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.attention.backward *= 2; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.attention.forward_edge = 0; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.attention.backward_edge = 0; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.memory *= 2; }) < usual);
    CHECK(with([](ls::device_rates& r) { r.launch = 0; }) < usual);
    // Copies are seen where the device waits for them.
    const double waits_to = with([](ls::device_rates& r) { r.to_host = 1e9; });
    const double waits_from = with([](ls::device_rates& r) { r.from_host = 1e9; });
    CHECK(usual < waits_to);
    CHECK(usual < waits_from);
    CHECK(waits_from < waits_to);  // a backward hides more
}

TEST_CASE("forecast: of a device that nobody measured, a sentence") {
    const auto unknown = [] { (void)ls::forecast<small<>, ls::host::cpu>(); };
    CHECK_THROWS_WITH_AS(unknown(),
                         "forecast: nobody said what this device does in a second; give rates, as ls::h200, or config.rates (bench_cuda_calibrate "
                         "measures them)",
                         ls::bad_argument);
    CHECK(ls::forecast<small<>, ls::host::cpu>({.products = 1e11, .memory = 1e10}).seconds() > 0);
}

TEST_CASE("forecast: as a table") {
    const std::string said = ls::describe(ls::forecast<small<ls::recompute_every<1>>, device>());
    CHECK(said.find("a step of 131 tokens, forecast for H200\n") == 0);
    for (const char* line : {"  dense products   ", "  attention   ", "  passes over memory   ", "  dense products, made again ", "  attention, made again ",
                             "  update ", "tokens/s"}) {
        CAPTURE(line);
        CHECK(said.find(line) != std::string::npos);
    }
    CHECK(said.find("copies") == std::string::npos);
    CHECK(ls::describe(ls::forecast<small<>, device>()).find("again") == std::string::npos);
}
