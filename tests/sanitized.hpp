// SPDX-License-Identifier: Apache-2.0
#pragma once

namespace test {

/// Whether sanitizers watch. They look at every address and operation, and have seen them after one evaluation of a shape: what is evaluated
/// again on the same shape, for the sake of numbers that the other builds check, may be left out for them. Bounds stay, and so do shapes.
#ifdef LONGSPAN_SANITIZED
inline constexpr bool sanitized = true;
#else
inline constexpr bool sanitized = false;
#endif

}  // namespace test
