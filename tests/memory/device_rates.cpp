// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/memory/device_rates.hpp>

namespace ls = longspan;

TEST_CASE("device rates: heads of a width, products of a precision, and what nobody knows") {
    constexpr ls::device_rates one{.products = 3, .attention = {.forward = 5}};
    static_assert(one.attention_of(64).forward == 5 && one.attention_of(128).forward == 5 && one.attention_of(256).forward == 5);
    static_assert(one.products_of<ls::uniform_precision<float>>() == 3);
    constexpr ls::device_rates all{.products = 3, .products_tf32 = 2, .products_fp32 = 1, .attention = {.forward = 5},
                                   .narrow_attention = {.forward = 6}, .wide_attention = {.forward = 7}};
    static_assert(all.attention_of(64).forward == 6 && all.attention_of(80).forward == 5 && all.attention_of(256).forward == 7);
    static_assert(all.products_of<ls::mixed_precision<ls::bf16>>() == 3);
    static_assert(all.products_of<ls::tf32_precision>() == 2);
    static_assert(all.products_of<ls::uniform_precision<float>>() == 1);
    static_assert(ls::seconds_of(12, 4.0) == 3 && ls::seconds_of(12, 0.0) == 0);
    static_assert(ls::h200.products > 0 && ls::h200.memory > 0 && ls::h200.to_host > 0 && ls::h200.attention_of(128).backward > 0);
    CHECK(ls::h200_portable.attention_of(64).forward < ls::h200.attention_of(64).forward);
}
