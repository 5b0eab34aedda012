// SPDX-License-Identifier: Apache-2.0
//
// LONGSPAN_EXTERN and LONGSPAN_INSTANTIATE with a backend of the caller's; without one it is the device (examples/06_hello_on_gpu).
#include <type_traits>

#include <doctest/doctest.h>

#include "made_elsewhere.hpp"

namespace ls = longspan;
using ls::cuda::detail::named_or_device;

static_assert(std::is_same_v<named_or_device<>, ls::cuda::device>);
static_assert(std::is_same_v<named_or_device<ls::cuda::portable_device>, ls::cuda::portable_device>);

TEST_CASE("trainer: made in another file, for a backend that is named behind the configuration") {
    ls::trainer<elsewhere::config, elsewhere::named<ls::host::cpu, 2>> t{ls::seed{1}};
    static_assert(decltype(t)::backend::option == 2);
    const ls::token_batch batch = models::odd_batch(elsewhere::config::shape.vocabulary, 3);
    CHECK(t.step(batch).refused == "");
    CHECK(t.submit(std::span(&batch, 1)).get().refused == "");
    CHECK(t.evaluate(batch) > 0);
}
