// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <longspan/cuda/pipeline/roles.hpp>

namespace pipeline = longspan::cuda::pipeline;

TEST_CASE("roles: a block owns the registers of its launch, in eights a thread, and no more") {
    CHECK(pipeline::registers_at_entry(384) == 168);
    CHECK(pipeline::registers_at_entry(512) == 128);
    CHECK(pipeline::registers_at_entry(256) == 248);  // a thread has no more than 255
    CHECK(pipeline::registers_suffice(24, 2, 240));
    CHECK(pipeline::registers_suffice(40, 2, 232));
    CHECK(pipeline::registers_suffice(56, 2, 224));
    CHECK(pipeline::registers_suffice(32, 3, 160));
    CHECK(pipeline::registers_suffice(48, 2, 208, 2));
    CHECK_FALSE(pipeline::registers_suffice(56, 2, 208, 2));
}

TEST_CASE("roles: a multiprocessor's 65,536 registers are not the block's") {
    static_assert(128 * (48 + 2 * 232) <= 65536);
    CHECK_FALSE(pipeline::registers_suffice(48, 2, 232));  // would wait for ever
    CHECK_FALSE(pipeline::registers_suffice(40, 3, 160));
}
