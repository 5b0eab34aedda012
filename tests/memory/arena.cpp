// SPDX-License-Identifier: Apache-2.0
#include <doctest/doctest.h>

#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include <longspan/memory/arena.hpp>

namespace ls = longspan;

TEST_CASE("arena: regions lie end to end, aligned; the high-water mark is the worst moment's sum") {
    ls::arena memory(1024);
    CHECK(memory.capacity() == 1024);
    const auto address = [](const std::byte* at) { return reinterpret_cast<std::uintptr_t>(at); };
    {
        ls::held_region a(memory, "a", 1);
        CHECK(address(a.data()) % 4096 == 0);
        CHECK(memory.used() == 64);
        {
            ls::held_region b(memory, "b", 65);
            CHECK(b.data() == a.data() + 64);
            CHECK(b.size() == 65);
            CHECK(memory.used() == 192);
            ls::held_region none(memory, "none", 0);
            CHECK(memory.used() == 192);
        }
        CHECK(memory.used() == 64);
        ls::held_region c(memory, "c", 64);
        CHECK(c.data() == a.data() + 64);
        CHECK(memory.used() == 128);
        CHECK(memory.high_water() == 192);
        memory.reset_high_water();
        CHECK(memory.high_water() == 128);
        ls::held_region moved = std::move(c);
        CHECK(memory.used() == 128);
        CHECK(moved.as<float>() == reinterpret_cast<float*>(a.data() + 64));
    }
    CHECK(memory.used() == 0);
    CHECK(memory.in_order());
}

TEST_CASE("arena: laps are the marks of one phase after the other, beside the mark of all") {
    ls::arena memory(1024);
    const ls::held_region all(memory, "all", 64);
    { const ls::held_region a(memory, "a", 256); }
    CHECK(memory.lap() == 320);
    memory.reset_high_water();
    { const ls::held_region b(memory, "b", 128); }
    CHECK(memory.lap() == 192);
    CHECK(memory.lap() == 64);
    CHECK(memory.high_water() == 192);
}

TEST_CASE("arena: what does not fit is refused with its name and the bytes, and takes nothing") {
    ls::arena memory(256);
    const ls::held_region a(memory, "a", 128);
    std::string sentence;
    try {
        (void)memory.acquire("logits", 129);
    } catch (const ls::out_of_memory& e) {
        sentence = e.what();
    }
    CHECK(sentence == "region 'logits' asks for 192 bytes, and of the arena's 256 bytes 128 are left");
    CHECK(memory.used() == 128);
    CHECK(memory.high_water() == 128);
    CHECK(ls::held_region(memory, "rest", 128).size() == 128);  // exactly what is left
#if !defined(__SANITIZE_ADDRESS__)  // which ends the program instead of refusing
    CHECK_THROWS_AS(ls::arena(ls::bytes{1} << 62), ls::out_of_memory);
#endif
}

TEST_CASE("arena: giving back out of order is noticed") {
    ls::arena memory(256);
    std::byte* const a = memory.acquire("a", 64);
    std::byte* const b = memory.acquire("b", 64);
    memory.release("a", a, 64);
    CHECK_FALSE(memory.in_order());
    memory.release("b", b, 64);
    CHECK(memory.used() == 0);
}

TEST_CASE("arena: lent memory that starts between two multiples of the alignment is refused") {
    alignas(256) std::array<std::byte, 512> lent;
    CHECK_THROWS_WITH_AS(ls::arena({lent.data() + 64, 448}, 256), doctest::Contains("starts at a multiple of 256 bytes; got address"), ls::bad_argument);
    const std::span<std::byte> rest(lent.data() + 64, 448);
    ls::arena memory(rest);
    CHECK(memory.capacity() == 448);
}

TEST_CASE("arena: memory may be lent, and an observer sees every region's own bytes") {
    alignas(64) std::array<std::byte, 256> lent;
    ls::arena memory{std::span(lent)};
    struct event {
        std::string name;
        std::size_t size;
        bool taken;
        bool operator==(const event&) const = default;
    };
    std::vector<event> seen;
    memory.observe({&seen,
                    [](void* state, const char* name, std::span<std::byte> region) {
                        static_cast<std::vector<event>*>(state)->push_back({name, region.size(), true});
                    },
                    [](void* state, const char* name, std::span<std::byte> region) {
                        static_cast<std::vector<event>*>(state)->push_back({name, region.size(), false});
                    }});
    {
        const ls::held_region a(memory, "a", 100);
        CHECK(a.data() == lent.data());
        const ls::held_region b(memory, "b", 1);
    }
    CHECK(seen == std::vector<event>{{"a", 100, true}, {"b", 1, true}, {"b", 1, false}, {"a", 100, false}});
}
