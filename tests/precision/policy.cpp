// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <string>
#include <type_traits>

#include <longspan/precision/policy.hpp>

namespace ls = longspan;
using ls::role;

namespace {

// What a config writes, and how a layer reads it.
struct config {
    static constexpr auto precision = ls::mixed<ls::bf16>;
};
using precision = decltype(config::precision);

template <class P, role R, class T>
constexpr bool stores = std::is_same_v<ls::storage_of<P, R>, T>;

template <class P, class T>
constexpr bool stores_all_as =
    stores<P, role::weight, T> && stores<P, role::activation, T> && stores<P, role::saved, T> && stores<P, role::gradient, T> &&
    stores<P, role::residual, T> && stores<P, role::statistic, T> && stores<P, role::parameter_gradient, T> &&
    stores<P, role::master, T> && stores<P, role::moment, T>;

struct not_a_policy {
    using operand = float;
};

}  // namespace

static_assert(stores_all_as<decltype(ls::fp32), float> && stores_all_as<decltype(ls::tf32), float>);
static_assert(stores_all_as<decltype(ls::fp64), double>);
static_assert(stores<precision, role::weight, ls::bf16> && stores<precision, role::activation, ls::bf16>);
static_assert(stores<precision, role::saved, ls::bf16> && stores<precision, role::gradient, ls::bf16>);
static_assert(stores<precision, role::residual, ls::bf16> && stores<precision, role::statistic, float>);
static_assert(stores<precision, role::parameter_gradient, float> && stores<precision, role::master, float>);
static_assert(stores<precision, role::moment, float>);

static_assert(std::is_same_v<ls::precision_of<decltype(ls::tf32)>::operand, ls::tf32_format>);
static_assert(std::is_same_v<ls::precision_of<precision>::operand, ls::bf16>);
static_assert(std::is_same_v<ls::precision_of<decltype(ls::fp64)>::accumulate, double>);

static_assert(ls::precision_policy<ls::precision_of<decltype(ls::fp32)>>);
static_assert(ls::precision_policy<ls::precision_of<decltype(ls::mixed<ls::fp16>)>>);
static_assert(!ls::precision_policy<not_a_policy> && !ls::precision_policy<float>);

static_assert(!ls::fp32.has_master && !ls::tf32.has_master && ls::mixed<ls::bf16>.has_master);
static_assert(!ls::mixed<ls::bf16>.needs_loss_scale && ls::mixed<ls::fp16>.needs_loss_scale);
static_assert(ls::bytes_of<precision, role::residual> == 2 && ls::bytes_of<precision, role::moment> == 4);

TEST_CASE("policy: names are those of the values") {
    CHECK(std::string(ls::fp32.name) == "fp32");
    CHECK(std::string(ls::fp64.name) == "fp64");
    CHECK(std::string(ls::tf32.name) == "tf32");
    CHECK(std::string(ls::mixed<ls::bf16>.name) == "mixed<bf16>");
    CHECK(std::string(ls::mixed<ls::fp16>.name) == "mixed<fp16>");
}
