// SPDX-License-Identifier: Apache-2.0
//
// Forecasts against steps that were measured: docs/forecast.md.
#include <doctest/doctest.h>

#include <longspan/cuda/device.hpp>
#include <longspan/model/forecast.hpp>

#include "../../bench/cuda/models.hpp"

namespace {

namespace ls = longspan;
using ls::index;  // not POSIX's

/// Of bench/cuda/long_steps.cu.
template <class Model, index Chunk, index Group = 0>
struct two_streams_in_chunks : Model {
    static constexpr auto shape = models::in_parts(models::on_two_streams(Model::shape), Chunk, Group);
    static constexpr auto attention = ls::causal & ls::window<1024>;
    static constexpr auto checkpoint = ls::reversible;
    static constexpr auto update = ls::moments<ls::eight_bit>.without_masters().by_bucket();
};
template <class Model, auto Policy>
struct under : Model {
    static constexpr auto checkpoint = Policy;
};

template <class Config, class Device = ls::cuda::device>
constexpr double seconds = ls::forecast<Config, Device>().seconds();

}  // namespace

TEST_CASE("forecast: within a tenth of what steps took on an H200") {
    // Milliseconds of bench/results/2026-11-28-h200-97ed93e.json and, in groups of heads, 2026-11-29-h200-b35289e.json; the rates come from single ops.
    const auto held = [](double forecast, double measured) { return 1e3 * forecast > 0.9 * measured && 1e3 * forecast < 1.1 * measured; };
    CHECK(held(seconds<models::a<65536, 4096>>, 142.0));
    CHECK(held(seconds<models::a<65536, 32768>>, 384.6));
    CHECK(held(seconds<models::b<16384, 4096>>, 184.1));
    CHECK(held(seconds<models::gpt2<65536, 1024>>, 116.2));
    CHECK(held(seconds<under<models::a<131072, 131072>, ls::selective>>, 2526));
    CHECK(held(seconds<two_streams_in_chunks<models::b<524288, 524288>, 8192>>, 7144));
    CHECK(held(seconds<two_streams_in_chunks<models::b<1048576, 1048576>, 32768, 8>>, 14509));
    CHECK(held(seconds<two_streams_in_chunks<models::b<4194304, 4194304>, 32768, 2>>, 69242));
    CHECK(held(seconds<models::a<65536, 32768>, ls::cuda::portable_device>, 599.9));
}
