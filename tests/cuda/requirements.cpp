// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <doctest/doctest.h>

#include <longspan/cuda/requirements.hpp>

namespace ls = longspan;

namespace {

using ls::GiB, ls::cuda::found_gpu, ls::cuda::reserve;

/// What is said of it, and which kind of exception says it.
template <class Error>
std::string refusal(const found_gpu& gpu, ls::bytes needed) {
    try {
        ls::cuda::expect_gpu(gpu, needed);
    } catch (const Error& e) {
        return e.what();
    }
    return "";
}

const found_gpu good{.name = "A GPU", .major = 9, .minor = 0, .has_code = true, .free = 20 * GiB, .total = 24 * GiB};

}  // namespace

TEST_CASE("requirements: no GPU, too old a GPU, a GPU that the program was not built for") {
    CHECK(refusal<ls::cuda::device_error>({}, 0) ==
          "a plan for cuda::device: cudaErrorNoDevice (no NVIDIA GPU answers; the host backend needs none)");
    found_gpu gpu = good;
    gpu.major = 7, gpu.minor = 5;
    CHECK(refusal<ls::cuda::device_error>(gpu, 0) ==
          "a plan for cuda::device: too old a GPU (expected compute capability 8.0 or later, got A GPU, compute capability 7.5)");
    gpu.major = 8, gpu.minor = 0;
    CHECK(refusal<ls::error>(gpu, 0) == "");
    gpu.has_code = false;
    CHECK(refusal<ls::cuda::device_error>(gpu, 0).find("this program holds no code for A GPU, compute capability 8.0; build it with") != std::string::npos);
}

TEST_CASE("requirements: the plan and the reserve fit into what is free, or the room is named") {
    CHECK(refusal<ls::error>(good, 20 * GiB - reserve) == "");
    const std::string said = refusal<ls::out_of_memory>(good, 20 * GiB - reserve + 1);
    CHECK(said == "the plan needs 20401094657 bytes, and 1073741824 more are kept for the driver, libraries and the recorded step; of the "
                  "25769803776 bytes of A GPU, compute capability 9.0, 21474836480 are free: a plan may take 20401094656");
    try {
        ls::cuda::expect_gpu(good, 21 * GiB);
    } catch (const ls::out_of_memory& e) {
        CHECK(e.room == 20 * GiB - reserve);
    }
    found_gpu full = good;
    full.free = reserve / 2;
    try {
        ls::cuda::expect_gpu(full, 1);
        FAIL("a plan was taken where nothing is free");
    } catch (const ls::out_of_memory& e) {
        CHECK(e.room == 0);
    }
}
