// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <type_traits>

#include <longspan/checkpoint/offload.hpp>
#include <longspan/checkpoint/recompute.hpp>
#include <longspan/cuda/device.hpp>
#include <longspan/host/cpu.hpp>
#include <longspan/model/fit.hpp>
#include <longspan/pattern/band.hpp>
#include <longspan/pattern/compose.hpp>

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

/// At another budget the table of pieces is that of the batch at that budget, not Config's own.
template <class Config, class Backend>
ls::bytes takes(ls::index tokens) {
    return ls::step_layout<Config, Backend>(tokens, Config::batch.pieces_for(tokens)).peak(Backend::alignment);
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
        CHECK(budget == ls::longest_within<Config, Backend>(room));
    }
}

bool ends(const std::string& text, const std::string& with) { return text.size() >= with.size() && text.substr(text.size() - with.size()) == with; }

/// A device's shapes of whole width, one context long, as people train them.
struct base {
    static constexpr auto shape = ls::decoder_shape{.layers = 12, .width = 768, .heads = 12, .hidden = 2048, .vocabulary = 50304, .context = 8192};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::mixed<ls::bf16>;
    static constexpr auto batch = ls::packed<8192>;
};
struct windowed : base {
    static constexpr auto attention = ls::causal & ls::window<64>;
};
struct padded_base : base {
    static constexpr auto batch = ls::padded<8192>.pieces<64>();
};
/// Rows of 100 tokens: more than one piece for every 64 tokens.
struct short_rows : padded_base {
    static constexpr auto shape = [] {
        ls::decoder_shape s = base::shape;
        s.context = 100;
        return s;
    }();
    static constexpr auto batch = ls::padded<1000>.pieces<20>();
};
struct one_short_row : short_rows {
    static constexpr auto batch = ls::padded<100>;
};
struct crowded_rows : short_rows {
    static constexpr auto batch = ls::padded<1000>;
};

template <class Policy>
ls::bytes peak_of(ls::index tokens) {
    return ls::step_layout<base, ls::cuda::device>(tokens, ls::default_max_pieces(tokens), &Policy::plan).peak(ls::cuda::device::alignment);
}
template <auto Policy>
using type_of = std::remove_cvref_t<decltype(Policy)>;

}  // namespace

TEST_CASE("fit: of everything that fits, the least made again; then the largest budget") {
    using device = ls::cuda::device;
    constexpr auto sizes = ls::budgets<65536, 16384, 32768, 4096>;
    constexpr auto all = ls::usual_policies;
    using all_type = type_of<ls::store_all>;
    using products = type_of<ls::selective_products>;
    using attention = type_of<ls::selective>;
    using one = type_of<ls::recompute_every<1>>;
    static_assert(ls::made_again<base, all_type>() == 0);
    static_assert(ls::made_again<base, products>() > 0);
    static_assert(ls::made_again<base, attention>() > ls::made_again<base, products>());
    static_assert(ls::made_again<base, one>() > ls::made_again<base, attention>());
    // 11 blocks of 12 make their expansion again; recompute_every<1> also the products and attention.
    static_assert(ls::made_again<base, products>() == 11 * 2.0 * 768 * 4096);
    static_assert(ls::made_again<base, one>() == 11 * (2.0 * 768 * 4096 + 2.0 * 768 * 4 * 768 + 4.0 * 768 * 4096.5));
    // Of attention, what the pattern sees: within a window a policy that makes it again may be the cheaper one.
    static_assert(ls::made_again<windowed, one>() ==
                  11 * (2.0 * 768 * 4096 + 2.0 * 768 * 4 * 768 + 4.0 * 768 * (64 * 8192.0 - 64 * 63 / 2) / 8192));

    const auto chosen = [&](ls::bytes room, ls::index step = 0) { return ls::choose<base, device>(room, step, all, sizes); };
    CHECK(chosen(peak_of<all_type>(65536)).policy == 0);
    CHECK(chosen(peak_of<all_type>(65536)).tokens == 65536);
    CHECK(chosen(peak_of<all_type>(65536) - 1).policy == 0);  // a smaller budget rather than work done twice
    CHECK(chosen(peak_of<all_type>(65536) - 1).tokens == 32768);
    CHECK(chosen(peak_of<all_type>(16384) - 1).policy == 1);
    CHECK(chosen(peak_of<products>(16384) - 1).policy == 2);
    CHECK(chosen(peak_of<attention>(16384) - 1).policy == 3);
    CHECK(chosen(peak_of<one>(16384) - 1).policy == -1);  // 4,096 is less than the context
    const ls::fitting steps = chosen(peak_of<products>(16384), 100'000);
    CHECK(steps.peak == peak_of<products>(16384));
    CHECK(steps.micro_batches == 7);
    CHECK(steps.made_again == ls::made_again<base, products>());
    CHECK(ls::choose<padded_base, device>(100 * ls::GiB, 0, all, ls::budgets<12000>).policy == -1);  // no whole rows
    CHECK(ls::choose<short_rows, device>(100 * ls::GiB, 0, all, ls::budgets<1000>).tokens == 1000);
    CHECK(ls::choose<crowded_rows, device>(100 * ls::GiB, 0, all, ls::budgets<1000>).policy == -1);  // 20 pieces, and room for 18
}

TEST_CASE("fit: what is chosen, its batches can be laid") {
    using device = ls::cuda::device;
    using chosen = ls::fit<one_short_row, device, 100 * ls::GiB, 3000, ls::budgets<3000>>;
    static_assert(chosen::batch.budget == 3000);
    chosen::batch.check(100);
}

TEST_CASE("fit: a configuration with the policy and the batch of its own choice") {
    using device = ls::cuda::device;
    using small = ls::fit<base, device, 5 * ls::GiB, 524288, ls::budgets<131072, 65536, 32768>>;
    static_assert(small::chosen.policy > 0);
    static_assert(ls::plan<small, device>.peak() == small::chosen.peak);
    static_assert(ls::plan<small, device>.peak() <= 5 * ls::GiB);
    static_assert(small::batch.budget * small::batch.micro_batches == 524288);
    static_assert(small::shape == base::shape);
    using roomy = ls::fit<base, device, 200 * ls::GiB>;
    static_assert(std::is_same_v<type_of<roomy::checkpoint>, type_of<ls::store_all>>);
    static_assert(std::is_same_v<type_of<roomy::batch>, type_of<base::batch>>);
    CHECK(ls::plan<roomy, device>.peak() == ls::plan<base, device>.peak());
}

TEST_CASE("fit: a policy that offloads is taken where it is listed and the device need not wait, and says what it pins") {
    using device = ls::cuda::device;
    constexpr auto hidden = ls::offload<ls::recompute_every<1>>;
    constexpr auto slow = ls::offload<ls::selective_products>;
    static_assert(ls::hides_or_may_wait<base, device, type_of<hidden>>() && !ls::hides_or_may_wait<base, device, type_of<slow>>());
    const auto chosen = [](auto list) { return ls::choose<base, device>(3000 * ls::MiB, 0, list, ls::budgets<16384>); };
    CHECK(chosen(ls::policies<ls::store_all, ls::selective_products, ls::selective>).policy == -1);
    const ls::fitting away = chosen(ls::policies<ls::store_all, slow, ls::selective, hidden>);
    CHECK(away.policy == 3);
    CHECK(away.pinned == ls::pinned_layout<base, device, type_of<hidden>>(16384).peak(device::alignment));
    CHECK(away.pinned > 200 * ls::MiB);
    CHECK(away.made_again == ls::made_again<base, type_of<ls::recompute_every<1>>>());
    CHECK(chosen(ls::policies<ls::store_all, slow.even_if_slow(), ls::selective, hidden>).policy == 1);
}

TEST_CASE("fit: the longest that fits, to the token") {
    using device = ls::cuda::device;
    constexpr ls::bytes room = 8 * ls::GiB;
    constexpr ls::index tokens = ls::longest<base, device, room>;
    CHECK(peak_of<type_of<ls::store_all>>(tokens) <= room);
    CHECK(peak_of<type_of<ls::store_all>>(tokens + 1) > room);
    static_assert(ls::longest<base, device, ls::MiB> == 0);
    for (const ls::index exactly : {1, 2, 100, 12345, 1'000'003, 1 << 20, 40'000'000}) {
        const ls::bytes takes = peak_of<type_of<ls::store_all>>(exactly);
        CHECK(ls::longest_within<base, device>(takes) == exactly);
        CHECK(ls::longest_within<base, device>(takes - 1) == exactly - 1);
    }
    constexpr ls::index rows = ls::longest<padded_base, device, room>;
    static_assert(rows % 8192 == 0 && rows > 0);
}

namespace {

struct paired : config<ls::store_all, 4096> {
    static constexpr auto shape = [] {
        ls::decoder_shape s = config<ls::store_all, 4096>::shape;
        s.layers = 16, s.residual = ls::residual_kind::two_streams;
        return s;
    }();
};

}  // namespace

TEST_CASE("fit: of two streams nothing may be kept, where nothing else fits") {
    using device = ls::cuda::device;
    constexpr auto all = ls::usual_policies_of<paired>;
    static_assert(std::is_same_v<decltype(ls::usual_policies_of<config<ls::store_all, 4096>>), decltype(ls::usual_policies)>);
    constexpr auto peak = [](auto policy) { return ls::detail::peak_at<paired, device>(30011, &decltype(policy)::plan); };
    constexpr ls::bytes least = peak(ls::reversible);
    static_assert(least < peak(ls::recompute_every<1>));
    constexpr auto none = ls::choose<paired, device>(least - 1, 0, all, ls::budgets<30011>);
    constexpr auto last = ls::choose<paired, device>(least, 0, all, ls::budgets<30011>);
    constexpr auto more = ls::choose<paired, device>(peak(ls::recompute_every<1>), 0, all, ls::budgets<30011>);
    static_assert(none.policy == -1);
    static_assert(last.policy == 5 && last.peak == least);  // reversible makes the most again, so it comes last
    static_assert(more.policy >= 0 && more.policy != 5 && more.made_again < last.made_again);
}

TEST_CASE("fit: the nearest budget fits, and one token more does not") {
    finds_the_budget<config<ls::store_all, 4096>, ls::cuda::device>();
    finds_the_budget<config<ls::recompute_every<2>, 4096>, ls::cuda::device>();
    finds_the_budget<config<ls::store_all, 4096>, ls::host::cpu>();
    static_assert(ls::budget_within<config<ls::store_all, 4096>, ls::cuda::device>(ls::GiB) < 30011);
}

TEST_CASE("fit: the nearest budget of padded batches is whole rows") {
    using device = ls::cuda::device;
    const ls::bytes most = takes<short_rows, device>(1000), least = takes<short_rows, device>(100);
    CHECK(ls::budget_within<short_rows, device>(most) == 1000);
    CHECK(ls::budget_within<short_rows, device>(most - 1) == 900);
    CHECK(ls::budget_within<short_rows, device>(takes<short_rows, device>(799)) == 700);
    CHECK(ls::budget_within<short_rows, device>(least) == 100);
    CHECK(ls::budget_within<short_rows, device>(least - 1) == 0);
    CHECK(ls::longest_within<short_rows, device>(least - 1) == 0);
    CHECK(ends(ls::advice_for<short_rows, device>(least - 1), ", and the least batch is one row of 100 tokens"));
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
