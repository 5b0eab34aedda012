// SPDX-License-Identifier: Apache-2.0
#include <cstddef>
#include <cstdint>
#include <numeric>
#include <span>
#include <string>
#include <vector>

#include <longspan/cuda/runtime.cuh>

#include "support.cuh"

namespace ls = longspan;
using runtime = ls::cuda::device::runtime;

namespace {

struct add_to {
    int* at;
    const int* what;
    __host__ __device__ void operator()() const { *at += *what; }
};

__global__ void sleep_for(int microseconds) {
    for (int i = 0; i < microseconds; ++i) __nanosleep(1000);
}

}  // namespace

TEST_CASE("runtime: work is done once, recorded the second time and replayed from then on, with the values of each time") {
    for (const bool graphs : {true, false}) {
        runtime on(4096);
        on.use_graphs(graphs);
        int* const sum = reinterpret_cast<int*>(on.memory().data());
        int* const what = sum + 64;
        on.send(0, sum);
        int calls = 0;
        for (int i = 1; i <= 40; ++i) {  // more than there is room for requests
            on.send(i, what);
            on.replay(3, [&] {
                ++calls;
                on.once(add_to{sum, what});
            });
        }
        CHECK(on.fetch(sum).get() == 820);
        CHECK(calls == (graphs ? 2 : 40));
        CHECK(on.times_recorded() == (graphs ? 1 : 0));
        on.forget();
        on.replay(3, [&] { ++calls; });
        CHECK(calls == (graphs ? 3 : 41));
    }
}

TEST_CASE("runtime: work goes to the default stream where it is named") {
    const auto legacy = ls::cuda::stream_ref::legacy_default();
    CHECK(static_cast<cudaStream_t>(legacy) == cudaStreamLegacy);
    runtime on(4096);
    int* const sum = reinterpret_cast<int*>(on.memory().data());
    on.send(3, sum);
    on.wait();
    ls::cuda::once(legacy, add_to{sum, sum});
    CHECK(cudaStreamSynchronize(legacy) == cudaSuccess);
    CHECK(on.fetch(sum).get() == 6);
    cudaStream_t never_set = nullptr;
    CHECK_THROWS_AS(ls::cuda::once(never_set, add_to{sum, sum}), ls::bad_argument);
}

TEST_CASE("runtime: answers come home in any order, and a forgotten one gives its place back") {
    runtime on(4096);
    int* const at = reinterpret_cast<int*>(on.memory().data());
    std::vector<ls::cuda::device::fetched<int>> answers;
    for (int i = 0; i < 64; ++i) {
        on.send(i, at);
        answers.push_back(on.fetch(at));
    }
    CHECK_THROWS_AS((void)on.fetch(at), ls::bad_argument);
    for (int i = 63; i >= 0; i -= 2) CHECK(answers[static_cast<std::size_t>(i)].get() == i);
    CHECK(answers[63].get() == 63);
    answers.clear();
    for (int i = 0; i < 64; ++i) {
        on.send(i, at);
        answers.push_back(on.fetch(at));
    }
    CHECK(answers[10].get() == 10);
}

TEST_CASE("runtime: batches are staged while earlier ones are still on their way") {
    constexpr int count = 100'000;
    runtime on(2 * count * sizeof(int), count * sizeof(int) + 256);
    int* const room = reinterpret_cast<int*>(on.memory().data());
    std::vector<std::vector<int>> back(12, std::vector<int>(count));
    for (int b = 0; b < 12; ++b) {
        std::vector<int> given(count);
        std::iota(given.begin(), given.end(), b * 1000);
        on.next_batch();
        CHECK(on.stage(std::span<const int>(given), room) == room);
        on.batch_placed();
        on.download(std::span<const int>(room, count), back[static_cast<std::size_t>(b)].data());
        CHECK(back[static_cast<std::size_t>(b)] == given);
    }
    on.next_batch();
    CHECK_THROWS_AS((void)on.stage(std::span<const int>(std::vector<int>(2 * count)), room), ls::bad_argument);
}

TEST_CASE("runtime: the copies of a batch of 65,536 tokens take little of a step") {
    constexpr ls::index tokens = 65536, pieces = tokens / 64 + 2;
    const ls::bytes size = ls::cuda::device::batch_memory(tokens, pieces);
    runtime on(size, size);
    const std::vector<std::int32_t> of_tokens(tokens, 1);
    const std::vector<ls::piece> table(pieces);
    cudaEvent_t begin{}, end{};
    cudaEventCreate(&begin);
    cudaEventCreate(&end);
    float least = 1e9f;
    for (int i = 0; i < 8; ++i) {
        on.wait();
        on.next_batch();
        std::byte* room = on.memory().data();
        sleep_for<<<1, 1, 0, on.stream()>>>(2'000);  // until the host has put everything on the stream
        cudaEventRecord(begin, on.stream());
        for (int array = 0; array < 3; ++array) {  // tokens, targets, places by id
            (void)on.stage(std::span(of_tokens), reinterpret_cast<std::int32_t*>(room));
            room += tokens * 4;
        }
        (void)on.stage(std::span(table), reinterpret_cast<ls::piece*>(room));
        cudaEventRecord(end, on.stream());
        on.batch_placed();
        on.wait();
        float ms = 0;
        cudaEventElapsedTime(&ms, begin, end);
        if (ms < least) least = ms;
    }
    cudaEventDestroy(begin);
    cudaEventDestroy(end);
    MESSAGE("copies of a batch of 65,536 tokens: " << least << " ms");
    CHECK(least < 0.3f);  // PCIe 3.0 by 8 lanes takes 0.12 ms
}

TEST_CASE("runtime: a plan larger than the device is refused in a sentence, and nothing is allocated") {
    std::size_t before = 0, after = 0, total = 0;
    cudaMemGetInfo(&before, &total);
    try {
        runtime on(static_cast<ls::bytes>(total));
        FAIL("a plan as large as the device was taken");
    } catch (const ls::out_of_memory& e) {
        CHECK(std::string(e.what()).find("the plan needs " + std::to_string(total) + " bytes") == 0);
        CHECK(std::string(e.what()).find("are free: a plan may take") != std::string::npos);
    }
    cudaMemGetInfo(&after, &total);
    CHECK(before == after);
}
