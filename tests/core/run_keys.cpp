// SPDX-License-Identifier: Apache-2.0
#include <type_traits>

#include <doctest/doctest.h>

#include <longspan/core/run_keys.hpp>

// It is copied to a device byte by byte.
static_assert(std::is_trivially_copyable_v<longspan::run_keys> && sizeof(longspan::run_keys) == 16);

TEST_CASE("run_keys: a run starts at step 0") { CHECK(longspan::run_keys{.seed = 7}.step == 0); }
