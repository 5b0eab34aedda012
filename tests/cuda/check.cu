// SPDX-License-Identifier: Apache-2.0
#include <string>

#include "support.cuh"

namespace ls = longspan;

namespace {

std::string sentence(auto&& f) {
    try {
        f();
    } catch (const ls::error& e) {
        return e.what();
    }
    return "";
}

}  // namespace

TEST_CASE("check: a failed call is an exception with its op, its name and the bytes asked for; the device lives on") {
    void* at = nullptr;
    const std::size_t much = std::size_t{1} << 46;
    const std::string said = sentence([&] { ls::cuda::check(cudaMalloc(&at, much), "a test", static_cast<ls::bytes>(much)); });
    CHECK(said == "a test: cudaErrorMemoryAllocation (out of memory); 70368744177664 bytes were asked for");
    (void)cudaGetLastError();
    cuda_test::device_array<float> still_works(4);
    still_works.zero();
    CHECK(still_works.get() == std::vector<float>(4, 0.0f));
}

TEST_CASE("check: views that do not fit are refused in a sentence") {
    alignas(16) float memory[64] = {};
    const ls::matrix_view<float> view(memory, 4, 8);
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", view, 4, 8, 16); }) == "");
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", view, 5, 8, 16); }).find("op: expected x of [5, 8], got [4, 8]") == 0);
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", view.column_range(1, 4), 4, 4, 16); }).find("op: expected x at a multiple of 16 bytes") == 0);
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", ls::matrix_view<float>(memory, 4, 4, 5), 4, 4, 16); }).find("got a stride of 5 elements") != std::string::npos);
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", ls::matrix_view<float>(nullptr, 4, 4), 4, 4); }).find("got a null pointer") != std::string::npos);
    CHECK(sentence([&] { ls::cuda::expect_view("op", "x", ls::matrix_view<float>(nullptr, 0, 4), 0, 4); }) == "");
}
