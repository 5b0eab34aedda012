// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <string>
#include <type_traits>

#include <doctest/doctest.h>

#include <longspan/cuda/stream.hpp>

using longspan::cuda::stream_ref;

// The default stream is never meant by accident.
static_assert(!std::is_constructible_v<stream_ref, int> && !std::is_constructible_v<stream_ref, std::nullptr_t>);
static_assert(!std::is_default_constructible_v<stream_ref> && std::is_convertible_v<CUstream_st*, stream_ref>);

TEST_CASE("stream_ref: is the stream it was made of") {
    char place = 0;
    auto* const stream = reinterpret_cast<CUstream_st*>(&place);
    CHECK(static_cast<CUstream_st*>(stream_ref(stream)) == stream);
}

TEST_CASE("stream_ref: a variable that was never set is refused; the default stream has a name") {
    CUstream_st* const never_set = nullptr;
    const auto make = [&] { return stream_ref(never_set); };
    CHECK_THROWS_WITH_AS((void)make(), "stream: expected one that was created, got null; the default stream is named by stream_ref::legacy_default()",
                         longspan::bad_argument);
    CHECK(static_cast<CUstream_st*>(stream_ref::legacy_default()) != nullptr);
    CHECK(static_cast<CUstream_st*>(stream_ref::legacy_default()) != static_cast<CUstream_st*>(stream_ref(reinterpret_cast<CUstream_st*>(2))));
}
