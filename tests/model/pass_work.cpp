// SPDX-License-Identifier: Apache-2.0
//
// The work of a micro-batch against operations counted by hand: three shapes, patterns and policies, pairs one by one.
#include <doctest/doctest.h>

#include <longspan/model/pass_work.hpp>

#include "configs.hpp"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

using layered = decltype(ls::stack<ls::causal, ls::causal & ls::window<20>>);

struct llama : models::config<models::llama, models::local, ls::recompute_every<2>, ls::mixed<ls::bf16>> {};
struct gpt2 : models::config<models::gpt2, layered{}, ls::selective, ls::fp32> {
    static constexpr auto batch = ls::packed<models::budget>.pieces<16>().accumulate<3>();
};
/// Three layers of two patterns, round and round.
struct uneven : models::config<models::llama, layered{}, ls::store_all, ls::mixed<ls::bf16>> {};
struct paired : models::config<models::llama, ls::full, ls::reversible, ls::mixed<ls::bf16>> {
    static constexpr auto shape = [] {
        ls::decoder_shape s = models::llama;
        s.residual = ls::residual_kind::two_streams;
        return s;
    }();
};

/// Pairs that a pattern sees in documents, one by one.
template <ls::pattern P>
double pairs(std::initializer_list<index> lengths) {
    index seen = 0;
    for (const index n : lengths)
        for (index q = 0; q < n; ++q)
            for (index k = 0; k < n; ++k) seen += P::contains({}, 0, q, k) ? 1 : 0;
    return static_cast<double>(seen);
}

constexpr double t = models::budget;
constexpr index odd[] = {33, 0, 1, 64, 2, 17};

}  // namespace

TEST_CASE("pass work: operations, and what a policy makes again") {
    using local = ls::pattern_of<models::local>;
    const double seen = pairs<local>({33, 0, 1, 64, 2, 17});
    CHECK(ls::pairs_of_batch<llama>(odd) == seen);
    const ls::pass_work w = ls::work_of_pass<llama>(seen);
    const double qkv = 2.0 * 24 * 48, out = 2.0 * 24 * 24, up = 2.0 * 24 * 80, down = 2.0 * 40 * 24;
    CHECK(w.forward.products == doctest::Approx(3 * t * (qkv + out + up + down)));
    CHECK(w.backward.products == doctest::Approx(6 * t * (qkv + out + up + down)));
    CHECK(w.ends.products == doctest::Approx(t * 6 * 24 * 61));
    CHECK(w.forward.attention_forward == doctest::Approx(3 * seen * 4 * 24));
    CHECK(w.backward.attention_backward == doctest::Approx(3 * seen * 10 * 24));
    // Of three blocks the first two are a segment that is made again, the second of them without its output.
    CHECK(w.again.products == doctest::Approx(t * (2 * (qkv + out + up) + down)));
    CHECK(w.again.attention_forward == doctest::Approx(2 * seen * 4 * 24));
    CHECK(w.again.attention_backward == 0);
    CHECK(w.again.pass_bytes == doctest::Approx(t * (2 * (2 * 2 * 24 * 2 + 2 * 36 * 2 + 6 * 4) + (80 + 40) * 2)));
    CHECK(w.all().operations() == doctest::Approx(w.useful().operations() + w.again.operations()));
    CHECK(w.useful().operations() == doctest::Approx(w.forward.operations() + w.backward.operations() + w.ends.operations()));
}

TEST_CASE("pass work: layers of two patterns, and documents as long as the context where nothing is said") {
    using causal = ls::pattern_of<ls::causal>;
    using window = ls::pattern_of<ls::causal & ls::window<20>>;
    const double mean = (pairs<causal>({97, 34}) + pairs<window>({97, 34})) / 2;
    constexpr double found = ls::pairs_of_batch<gpt2>();
    CHECK(found == doctest::Approx(mean));
    CHECK(ls::mean_keys<gpt2> == doctest::Approx((pairs<causal>({97}) + pairs<window>({97})) / 2 / 97));
    const double by_causal = pairs<causal>({33, 0, 1, 64, 2, 17}), by_window = pairs<window>({33, 0, 1, 64, 2, 17});
    CHECK(ls::pairs_of_batch<uneven>(odd) == doctest::Approx((2 * by_causal + by_window) / 3));
    const ls::pass_work w = ls::work_of_pass<gpt2>(found);
    CHECK(w.forward.attention_forward == doctest::Approx(2 * mean * 4 * 24));
    // One block of two makes again all but attention and its output.
    CHECK(w.again.products == doctest::Approx(t * 2 * (24 * 72 + 24 * 24 + 24 * 33)));
    CHECK(w.again.attention_forward == 0);
}

TEST_CASE("pass work: reversible makes everything again, and hands nothing on") {
    const ls::pass_work w = ls::work_of_pass<paired>(ls::pairs_of_batch<paired>());
    CHECK(ls::pairs_of_batch<paired>() == 97 * 97 + 34 * 34);
    CHECK(w.again.operations() == doctest::Approx(w.forward.operations()));
    CHECK(w.again.pass_bytes == doctest::Approx(w.forward.pass_bytes));
    const ls::pass_work kept = ls::work_of_pass<paired, std::remove_cvref_t<decltype(ls::store_all)>>(ls::pairs_of_batch<paired>());
    CHECK(kept.forward.pass_bytes == doctest::Approx(w.forward.pass_bytes + 3 * t * 2 * 24 * 4));
    CHECK(kept.again.operations() == 0);
}

TEST_CASE("pass work: seconds, one op after the other") {
    using model = ls::model_of_config<llama>;
    constexpr ls::work w{.products = 100, .product_bytes = 30, .product_depths = 9, .attention_forward = 7, .attention_backward = 11,
                         .forward_queries = 2, .backward_queries = 3, .pass_bytes = 50, .kernels = 6};
    constexpr ls::device_rates rates{.products = 10, .product_edge = 4, .exposed = 0.5,
                                     .attention = {.forward = 2, .backward = 4, .forward_edge = 5, .backward_edge = 6},
                                     .memory = 8, .launch = 0.25};
    constexpr ls::work_seconds s = ls::seconds_of<model>(w, rates);
    CHECK(s.products == doctest::Approx((100 + 2 * 9 * 4) / 10.0 + 0.5 * 30 / 8));
    CHECK(s.attention == doctest::Approx((7 + 2 * 4.0 * 24 * 5) / 2 + (11 + 3 * 10.0 * 24 * 6) / 4));
    CHECK(s.passes == doctest::Approx(50 / 8.0));
    CHECK(s.launches == doctest::Approx(1.5));
    CHECK(s.total() == doctest::Approx(s.products + s.attention + s.passes + s.launches));
    static_assert(ls::seconds_of<model>(w, {}).total() == 0);
}
