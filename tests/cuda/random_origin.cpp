// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/random_origin.hpp>

namespace ls = longspan;

TEST_CASE("random_origin: seed and step come from the run's keys where there are some, layer and site never") {
    const ls::random_site site{.seed = 3, .step = 4, .layer = 5, .site = 6};
    CHECK(ls::cuda::random_origin(site).key() == ls::key_of(site));
    const ls::run_keys keys{.seed = 30, .step = 40};
    CHECK(ls::cuda::random_origin(site, &keys).key() == ls::key_of({.seed = 30, .step = 40, .layer = 5, .site = 6}));
    CHECK(!(ls::cuda::random_origin(site, &keys).key() == ls::key_of(site)));
}
