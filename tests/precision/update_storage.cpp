// SPDX-License-Identifier: Apache-2.0
// What makes no sense together is refused with a sentence: tests/misuse.
#include <doctest/doctest.h>

#include <concepts>
#include <string_view>
#include <type_traits>

#include <longspan/precision/update_storage.hpp>

namespace ls = longspan;

namespace {

using mixed = ls::mixed_precision<ls::bf16>;
using single = ls::uniform_precision<float>;
using doubles = ls::uniform_precision<double>;
template <auto Update>
using type = std::remove_cvref_t<decltype(Update)>;

using usual = type<ls::usual_update>;
static_assert(usual::usual<mixed> && usual::usual<doubles> && std::same_as<usual::moment<doubles>, double>);
static_assert(usual::has_master<mixed> && !usual::has_master<single> && usual::bucket_alignment == 128 && !usual::in_buckets);
static_assert(type<ls::moments<float>>::usual<mixed> && !type<ls::moments<float>.without_masters()>::usual<mixed>);

using least = type<ls::moments<ls::eight_bit>.without_masters().by_bucket()>;
static_assert(std::same_as<least, type<ls::moments<ls::eight_bit>.by_bucket().without_masters()>>);
static_assert(!least::has_master<mixed> && least::in_buckets && !least::knows_norm && least::bucket_alignment == 256 && !least::usual<mixed>);
static_assert(type<ls::moments<ls::bf16>.by_bucket().with_norm()>::knows_norm && type<ls::moments<ls::bf16>.by_bucket().with_norm()>::twice);
using sums = type<ls::moments<ls::bf16>.bf16_gradients()>;
static_assert(sums::in_bf16 && sums::through_a_room && !sums::in_buckets && sums::knows_norm && sums::masters && !usual::through_a_room);
static_assert(ls::check_update<sums, single>());
static_assert(ls::is_update_storage<least> && !ls::is_update_storage<int>);
static_assert(ls::check_update<least, mixed>() && ls::check_update<type<ls::moments<ls::bf16>>, single>() && ls::check_update<usual, doubles>());
static_assert(ls::check_update<type<ls::moments<ls::bf16>.by_bucket().with_norm()>, ls::mixed_precision<ls::fp16>>());

}  // namespace

TEST_CASE("update_storage: names of the formats, as a snapshot says them") {
    CHECK(std::string_view(usual::moments_name) == "usual");
    CHECK(std::string_view(least::moments_name) == "eight_bit");
    CHECK(std::string_view(type<ls::moments<ls::bf16>>::moments_name) == "bf16");
}
