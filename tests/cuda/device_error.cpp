// SPDX-License-Identifier: Apache-2.0
#include <string>

#include <doctest/doctest.h>

#include <longspan/cuda/device_error.hpp>

using longspan::cuda::device_error;

TEST_CASE("device_error: says which op asked, for what, and CUDA's name for the reason") {
    const device_error e("attention forward", "cudaErrorMemoryAllocation", "out of memory", 1024);
    CHECK(std::string(e.what()) == "attention forward: cudaErrorMemoryAllocation (out of memory); 1024 bytes were asked for");
    CHECK(e.asked == 1024);
    CHECK(std::string(device_error("embed", "cudaErrorInvalidValue", "invalid argument").what()) ==
          "embed: cudaErrorInvalidValue (invalid argument)");
}
