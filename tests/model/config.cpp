// SPDX-License-Identifier: Apache-2.0
// A configuration that is none is refused with a sentence: tests/misuse.
#include <doctest/doctest.h>

#include <type_traits>

#include <longspan/checkpoint/recompute.hpp>
#include <longspan/model/config.hpp>
#include <longspan/pattern/band.hpp>

namespace ls = longspan;

namespace {

struct brief {
    static constexpr ls::decoder_shape shape{.layers = 2, .width = 64, .heads = 4, .hidden = 10, .vocabulary = 5, .context = 8};
    static constexpr auto attention = ls::causal;
    static constexpr auto checkpoint = ls::store_all;
    static constexpr auto precision = ls::fp32;
    static constexpr auto batch = ls::packed<8>;
};
template <ls::position_kind Positions>
struct longer : brief {
    static constexpr auto shape = [] {
        auto s = brief::shape;
        s.context = 100;
        s.positions = Positions;
        return s;
    }();
    static constexpr auto checkpoint = ls::recompute_every<2>;
    static constexpr auto batch = ls::packed<100>;
};
struct half : brief {
    static constexpr auto precision = ls::mixed<ls::bf16>;
};
struct incomplete {
    static constexpr auto shape = brief::shape;
};

static_assert(ls::configuration<brief> && !ls::configuration<incomplete>);
static_assert(ls::check_config<brief>());
static_assert(ls::check_config<longer<ls::position_kind::rotary>>());
// Layers do not see what they do not need: context, unless it sizes a table; checkpointing; batching.
static_assert(std::is_same_v<ls::model_of_config<brief>, ls::model_of_config<longer<ls::position_kind::rotary>>>);
static_assert(!std::is_same_v<ls::model_of_config<longer<ls::position_kind::none>>, ls::model_of_config<brief>>);
static_assert(!std::is_same_v<ls::model_of_config<half>, ls::model_of_config<brief>>);

}  // namespace

TEST_CASE("config: a table of learned positions is as long as the context") {
    CHECK(ls::model_of_config<longer<ls::position_kind::learned>>::shape.context == 100);
    CHECK(ls::model_of_config<longer<ls::position_kind::rotary>>::shape.context == 1);
}
