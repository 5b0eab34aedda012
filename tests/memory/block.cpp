// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <utility>

#include <doctest/doctest.h>

#include <longspan/memory/block.hpp>

namespace ls = longspan;

TEST_CASE("memory_block: aligned to a page, as long as asked, and passed on by moving") {
    ls::memory_block block(5000);
    CHECK(block.bytes_of().size() == 5000);
    CHECK(reinterpret_cast<std::uintptr_t>(block.bytes_of().data()) % 4096 == 0);
    block.bytes_of()[4999] = std::byte{3};
    const ls::memory_block taken = std::move(block);
    CHECK(taken.bytes_of()[4999] == std::byte{3});
}

TEST_CASE("memory_block: more than there is is refused with the bytes") {
    CHECK_THROWS_WITH_AS(ls::memory_block{ls::bytes{1} << 60}, "the plan needs one block of 1152921504606846976 bytes, and the system refused it",
                         ls::out_of_memory);
}
