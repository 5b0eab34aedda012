// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <initializer_list>
#include <type_traits>

#include <longspan/precision/format.hpp>

namespace ls = longspan;

static_assert(std::is_same_v<ls::compute_t<float>, float> && std::is_same_v<ls::compute_t<double>, double>);
static_assert(std::is_same_v<ls::compute_t<ls::bf16>, float> && std::is_same_v<ls::compute_t<const ls::fp16>, float>);
static_assert(ls::storage_format<ls::bf16> && !ls::storage_format<ls::tf32_format> && ls::operand_format<ls::tf32_format>);
static_assert(!ls::storage_format<int>);

namespace {

// 1 + epsilon is the value after 1, 1 + epsilon/2 a tie that falls back to it, and `maximum` survives while twice it does not.
template <class F>
constexpr bool consistent() {
    using c = ls::compute_t<F>;
    constexpr c epsilon = static_cast<c>(ls::format<F>::epsilon), maximum = static_cast<c>(ls::format<F>::maximum);
    return ls::round_to<F>(1 + epsilon) == 1 + epsilon && ls::round_to<F>(1 + epsilon / 2) == 1 &&
           ls::round_to<F>(maximum) == maximum;
}

}  // namespace

static_assert(consistent<float>() && consistent<double>() && consistent<ls::bf16>() && consistent<ls::fp16>());
static_assert(consistent<ls::tf32_format>());

TEST_CASE("format: what is stored reads back as what was rounded") {
    for (const float x : {0.1f, -3.14159f, 1e-6f, 1234.5f, 0.0f}) {
        CHECK(ls::to_compute(ls::from_compute<ls::bf16>(x)) == ls::round_to<ls::bf16>(x));
        CHECK(ls::to_compute(ls::from_compute<ls::fp16>(x)) == ls::round_to<ls::fp16>(x));
        CHECK(ls::to_compute(ls::from_compute<float>(x)) == x);
    }
    CHECK(ls::from_compute<double>(0.1) == 0.1);
}

TEST_CASE("format: sizes are those of the storage types") {
    CHECK(ls::format<float>::size == sizeof(float));
    CHECK(ls::format<double>::size == sizeof(double));
    CHECK(ls::format<ls::bf16>::size == sizeof(ls::bf16));
    CHECK(ls::format<ls::fp16>::size == sizeof(ls::fp16));
}
