// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/cuda/device.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/model/fit.hpp>
#include <longspan/pattern/band.hpp>

namespace ls = longspan;

namespace {

template <auto Checkpoint, ls::index Context>
struct config {
    static constexpr auto shape = ls::decoder_shape{
        .layers = 4, .width = 512, .heads = 8, .key_value_heads = 2, .hidden = 1408, .vocabulary = 50304, .context = Context};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = Checkpoint;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<30011>;  // a prime
};

template <class Config, class Backend>
ls::bytes takes(ls::index tokens) {
    return ls::step_layout<Config, Backend>(tokens, Config::batch.max_pieces).peak(Backend::alignment);
}

/// At every room between nothing and the plan, the budget fits and the next one does not.
template <class Config, class Backend>
void finds_the_budget() {
    constexpr ls::bytes whole = ls::plan<Config, Backend>.peak();
    CHECK(ls::budget_within<Config, Backend>(whole) == Config::batch.budget);
    CHECK(ls::budget_within<Config, Backend>(whole + 1'000'000) == Config::batch.budget);
    CHECK(ls::budget_within<Config, Backend>(0) == 0);
    CHECK(ls::budget_within<Config, Backend>(takes<Config, Backend>(1) - 1) == 0);
    CHECK(ls::budget_within<Config, Backend>(takes<Config, Backend>(1)) >= 1);
    for (int part = 1; part < 20; ++part) {
        const ls::bytes room = takes<Config, Backend>(1) + part * (whole - takes<Config, Backend>(1)) / 20;
        const ls::index budget = ls::budget_within<Config, Backend>(room);
        CHECK(budget > 0);
        CHECK(takes<Config, Backend>(budget) <= room);
        CHECK(takes<Config, Backend>(budget + 1) > room);
    }
}

bool ends(const std::string& text, const std::string& with) { return text.size() >= with.size() && text.substr(text.size() - with.size()) == with; }

}  // namespace

TEST_CASE("fit: the nearest budget fits, and one token more does not") {
    finds_the_budget<config<ls::store_all, 4096>, ls::cuda::device>();
    finds_the_budget<config<ls::recompute_every<2>, 4096>, ls::cuda::device>();
    finds_the_budget<config<ls::store_all, 4096>, ls::host::cpu>();
    static_assert(ls::budget_within<config<ls::store_all, 4096>, ls::cuda::device>(ls::GiB) < 30011);
}

TEST_CASE("fit: what is said of a plan that does not fit") {
    using on = config<ls::store_all, 4096>;
    using wide = config<ls::store_all, 30000>;
    using device = ls::cuda::device;
    const std::string table = ls::describe(ls::plan<on, device>);
    CHECK(ls::advice_for<on, device>(-1) == table);
    const ls::bytes room = takes<on, device>(12345);
    const std::string said = ls::advice_for<on, device>(room);
    CHECK(said.find(table) == 0);
    CHECK(ends(said, "\nthe nearest budget that fits is 12,345 tokens, and config.batch names 30,011"));
    CHECK(ends(ls::advice_for<wide, device>(room), "; that is less than the context of 30,000, which must be shorter too, or the policy keep less"));
    CHECK(ls::advice_for<on, device>(1000).find("no budget fits into 1,000 bytes: what stays from step to step takes ") != std::string::npos);
}
