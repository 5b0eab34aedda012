// SPDX-License-Identifier: Apache-2.0
//
// Copies beside a stream: large enough that what does not wait is seen.
#include <span>
#include <string>
#include <vector>

#include <longspan/cuda/copies.cuh>
#include <longspan/cuda/runtime.cuh>

#include "support.cuh"

namespace ls = longspan;
using ls::bytes;
using ls::cuda::check;
using runtime = ls::cuda::device::runtime;

static constexpr bytes piece = 128 * ls::MiB;

TEST_CASE("copies: what left, what stands in its place and what returned, recorded or not") {
    for (const bool graphs : {false, true}) {
        runtime on(3 * piece, 0, 2 * piece);
        on.use_graphs(graphs);
        REQUIRE(on.copies() != nullptr);
        const ls::cuda::copies& copies = *on.copies();
        std::byte *const here = on.memory().data(), *const away = on.pinned().data(), *const seed = here + 2 * piece;
        const auto fill = [&](std::byte* at, int value) {
            check(cudaMemsetAsync(at, value, static_cast<std::size_t>(piece), on.stream()), "fill", piece);
        };
        const auto put = [&](std::byte* from, std::byte* to) {
            check(cudaMemcpyAsync(to, from, static_cast<std::size_t>(piece), cudaMemcpyDeviceToDevice, on.stream()), "put", piece);
        };
        const auto swap = [&](auto&& copy) {  // first half there, second half here, in two pieces
            copy(here, away, piece / 2);
            copy(here + piece / 2, away + piece / 2, piece / 2);
        };
        const auto other = [&](auto&& copy) { copy(here + piece, away + piece, piece); };
        for (int round = 1; round <= 4; ++round) {  // once, recorded, replayed
            fill(seed, round);
            on.replay(0, [&] {
                put(seed, here);
                copies.leave(on.stream(), 3, swap);  // behind the put
                copies.wait(on.stream(), 3);
                fill(here, 0xee);                    // behind the leave
                put(seed, here + piece);
                copies.leave(on.stream(), 63, other);
                copies.fetch(on.stream(), 3, swap);  // beside it, behind the fill
                copies.wait(on.stream(), 3);
                copies.wait(on.stream(), 63);
            });
            std::vector<unsigned char> back(static_cast<std::size_t>(2 * piece));
            on.download(std::span<const unsigned char>(reinterpret_cast<unsigned char*>(here), back.size()), back.data());
            std::size_t wrong = 0;
            for (const unsigned char value : back) wrong += value != round;
            CHECK(wrong == 0);
            wrong = 0;
            for (const std::byte value : on.pinned()) wrong += value != std::byte(round);
            CHECK(wrong == 0);
        }
    }
}

TEST_CASE("copies: none without pinned memory; pinned memory that the host has not is refused with its bytes") {
    runtime on(4096);
    CHECK(on.copies() == nullptr);
    CHECK(on.pinned().empty());
    try {
        runtime refused(4096, 0, bytes{1} << 50);
        FAIL("a petabyte was pinned");
    } catch (const ls::out_of_memory& e) {
        CHECK(std::string(e.what()).find("the plan needs 1125899906842624 bytes of pinned host memory, and the system refused them") == 0);
    }
    CHECK(cudaGetLastError() == cudaSuccess);
}
