// SPDX-License-Identifier: Apache-2.0
#include <cstdint>
#include <vector>

#include <doctest/doctest.h>

#include <longspan/host/runtime.hpp>

namespace ls = longspan;

TEST_CASE("runtime: one block, aligned to a page") {
    ls::host::runtime runtime(10000);
    CHECK(runtime.memory().size() == 10000);
    CHECK(reinterpret_cast<std::uintptr_t>(runtime.memory().data()) % 4096 == 0);
    CHECK_THROWS_AS(ls::host::runtime{ls::bytes{1} << 60}, ls::out_of_memory);
    CHECK(runtime.pinned().empty());
    ls::host::runtime with_pinned(64, 0, 5000);
    CHECK(with_pinned.pinned().size() == 5000);
    CHECK_THROWS_AS(ls::host::runtime(64, 0, ls::bytes{1} << 60), ls::out_of_memory);
}

TEST_CASE("runtime: work is done every time, arrays are used where they are, values arrive at once") {
    ls::host::runtime runtime(64);
    int times = 0;
    for (int i = 0; i < 3; ++i) runtime.replay(0, [&] { ++times; });
    runtime.once([&] { ++times; });
    CHECK(times == 4);

    const std::vector<int> given{3, 1, 4, 1, 5};
    int* const room = reinterpret_cast<int*>(runtime.memory().data());
    CHECK(runtime.stage(std::span(given), room) == given.data());
    runtime.upload(std::span(given), room);
    std::vector<int> back(given.size());
    runtime.download(std::span<const int>(room, back.size()), back.data());
    CHECK(back == given);
    CHECK(runtime.stage_out(std::span(back), room) == back.data());
    CHECK(runtime.stage_out(std::span<int>(), room) == nullptr);

    runtime.send(9, room + 2);
    const auto then = runtime.fetch(room + 2);
    runtime.send(2, room + 2);
    CHECK(then.get() == 9);
    CHECK(room[2] == 2);
}
