// SPDX-License-Identifier: Apache-2.0
//
// What copies take beside work, against the same in plain numbers.
#include <doctest/doctest.h>

#include <longspan/cuda/device.hpp>
#include <longspan/longspan.hpp>

namespace {

namespace ls = longspan;
using device = ls::cuda::device;

/// 875 million parameters within a window.
template <auto Policy, auto Attention = ls::causal & ls::window<1024>, auto Precision = ls::mixed<ls::bf16>>
struct wide {
    static constexpr auto shape = ls::decoder_shape{.layers = 16, .width = 2048, .heads = 16, .hidden = 5504, .vocabulary = 32000, .context = 32768};
    static constexpr auto attention = Attention;
    static constexpr auto checkpoint = Policy;
    static constexpr auto precision = Precision;
    static constexpr auto batch = ls::packed<65536>;
};
template <auto Policy>
struct on_a_slow_bus : wide<Policy> {
    static constexpr ls::device_rates rates{.products = 600e12, .attention = {.forward = 600e12, .backward = 300e12}, .to_host = 25e9, .from_host = 50e9};
};
template <auto Policy>
struct on_a_slow_way_back : wide<Policy> {
    static constexpr ls::device_rates rates{.products = 600e12, .attention = {.forward = 600e12, .backward = 300e12}, .to_host = 50e9, .from_host = 15e9};
};

constexpr auto ends = ls::offload<ls::selective>.for_blocks<8>().then(ls::recompute_every<1>);
constexpr auto stays = ls::offload<ls::recompute_every<1>>.for_blocks<8>().then(ls::store_all);
constexpr auto any = ls::offload<ls::store_all>.even_if_slow();

template <class Config>
constexpr bool serves = ls::hides_or_may_wait<Config, device>();

}  // namespace

TEST_CASE("hiding: bytes of a segment over bandwidth, operations of a block over their rates") {
    constexpr ls::device_rates rates{.products = 600e12, .attention = {.forward = 600e12, .backward = 300e12}, .to_host = 25e9, .from_host = 50e9};
    constexpr ls::hiding h = ls::hiding_of<on_a_slow_bus<ls::offload<ls::selective>>, device>();
    const double kept = 2 * 2048 + 2 * 2048 + 4 * 16;  // the stream, what attention made, its log-sum-exp
    const double products = 2.0 * 2048 * (3 * 2048 + 2048 + 3 * 5504), keys = 1024 - 1024.0 * 1023 / 2 / 32768;
    CHECK(h.leaves == doctest::Approx(1e9 * kept / rates.to_host));
    CHECK(h.returns == doctest::Approx(1e9 * kept / rates.from_host));
    CHECK(h.forward == doctest::Approx(1e9 * (products / rates.products + 4.0 * 2048 * keys / rates.attention.forward)));
    CHECK(h.backward == doctest::Approx(1e9 * (2 * products / rates.products + 10.0 * 2048 * keys / rates.attention.backward)));
    // Segments of four blocks: one stream, and four times the work.
    constexpr ls::hiding four = ls::hiding_of<on_a_slow_bus<ls::offload<ls::recompute_every<4>>>, device>();
    CHECK(four.leaves == doctest::Approx(1e9 * 2 * 2048 / rates.to_host));
    CHECK(four.forward == doctest::Approx(4 * h.forward));
}

TEST_CASE("hiding: who hides") {
    static_assert(serves<wide<ls::offload<ls::selective>>> && serves<wide<ls::offload<ls::recompute_every<1>>>>);
    static_assert(!serves<wide<ls::offload<ls::store_all>>> && serves<wide<any>> && serves<wide<ls::store_all>>);
    static_assert(!serves<on_a_slow_bus<ls::offload<ls::selective>>> && serves<on_a_slow_bus<ls::offload<ls::recompute_every<1>>>>);
    static_assert(!serves<on_a_slow_way_back<ls::offload<ls::selective>>>);
    static_assert(serves<wide<ends>> && !serves<on_a_slow_bus<ends>> && serves<wide<stays>>);  // only the part that leaves is asked
    static_assert(ls::hides_or_may_wait<wide<ls::offload<ls::store_all>>, ls::host::cpu>());  // one memory
    // Slow products hide more; the layer that sees least decides.
    static_assert(serves<wide<ls::offload<ls::store_all>, ls::causal & ls::window<1024>, ls::fp32>>);
    constexpr auto products = ls::offload<ls::selective_products>;
    static_assert(serves<wide<products, ls::full>> && !serves<wide<products, ls::stack<ls::full, ls::window<64>>>>);
}

TEST_CASE("hiding: keys that a query sees on average, under the pattern that sees least") {
    constexpr auto all = ls::store_all;
    static_assert(ls::detail::least_keys<wide<all, ls::full>>() == 32768);
    static_assert(ls::detail::least_keys<wide<all, ls::causal>>() == 16384.5);
    static_assert(ls::detail::least_keys<wide<all, ls::stack<ls::causal, ls::causal & ls::window<1>>>>() == 1);
    static_assert(ls::detail::least_keys<wide<all, ls::window_up_to>>() == 0);  // nobody knows before the run
}
