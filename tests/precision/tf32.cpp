// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/precision/tf32.hpp>

#include "rounding.hpp"

namespace {

// A tf32 value as a type that is made from a float and read as one.
struct stored_tf32 {
    float value;
    explicit stored_tf32(float from) : value(longspan::tf32_format::round(from)) {}
    operator float() const { return value; }
};

}  // namespace

static_assert(longspan::tf32_format::round(0x1.002p0f) == 1.0f);        // a tie goes to the even pattern below
static_assert(longspan::tf32_format::round(0x1.006p0f) == 0x1.008p0f);  // and to the one above

TEST_CASE("tf32: rounds a float to 10 mantissa bits, to nearest even") {
    rounding::sweep<stored_tf32>({.mantissa = 10, .smallest_exponent = -126, .maximum = 0x1.ffcp127});
}
