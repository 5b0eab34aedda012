// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <set>
#include <type_traits>

#include <longspan/layer/context.hpp>
#include <longspan/model/shape.hpp>

namespace ls = longspan;

namespace {

using model = ls::model_of<ls::decoder_shape{.layers = 1, .width = 8}, std::remove_cvref_t<decltype(ls::mixed<ls::bf16>)>>;
static_assert(model::shape.width == 8);
static_assert(std::is_same_v<model::storage<ls::role::weight>, ls::bf16>);
static_assert(std::is_same_v<model::view<ls::role::statistic>, ls::matrix_view<float>>);
static_assert(std::is_same_v<model::const_view<ls::role::residual>, ls::matrix_view<const ls::bf16>>);
// The same numbers make the same type: phases share their instantiations.
static_assert(std::is_same_v<model, ls::model_of<ls::decoder_shape{.layers = 1, .width = 8}, std::remove_cvref_t<decltype(ls::mixed<ls::bf16>)>>>);

}  // namespace

TEST_CASE("context: every site of a layer draws from a stream of its own") {
    using enum ls::draw_site;
    std::set<std::uint32_t> sites;
    for (const auto site : {embedding, attention_map, attention_branch, mlp_branch}) sites.insert(static_cast<std::uint32_t>(site));
    CHECK(sites.size() == 4);
    CHECK(static_cast<std::uint32_t>(attention_map) == 1);  // the host's attention names it by number
}
