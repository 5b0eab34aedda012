// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <type_traits>

#include <longspan/core/attention_segment.hpp>
#include <longspan/precision/tf32.hpp>

namespace longspan {

TEST_CASE("a segment is plain bytes that a GPU can read") {
    static_assert(std::is_trivially_copyable_v<attention_segment> && sizeof(attention_segment) == 64);
    const attention_segment nothing{};
    CHECK(nothing.query_count == 0);
    CHECK(nothing.key_count == 0);
}

TEST_CASE("a score has nothing that was not asked for") {
    static_assert(!score<>::soft_cap && !score<>::alibi && !score<>::sink && !score<>::dropout && std::is_void_v<score<>::rounding>);
    static_assert(score<false, true, false, true, tf32_format>::alibi && score<false, true, false, true, tf32_format>::dropout);
    static_assert(std::is_same_v<score<false, true, false, true, tf32_format>::rounding, tf32_format>);
}

}  // namespace longspan
