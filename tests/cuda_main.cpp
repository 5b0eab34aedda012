// SPDX-License-Identifier: Apache-2.0
// The main function of the device's tests: without a GPU they are skipped, and say so.
#define DOCTEST_CONFIG_IMPLEMENT
#include <cstdio>

#include <cuda_runtime_api.h>
#include <doctest/doctest.h>

int main(int count, char** words) {
    int devices = 0;
    if (const cudaError_t code = cudaGetDeviceCount(&devices); code != cudaSuccess || devices == 0) {
        std::printf("skipped: no NVIDIA GPU answers (%s)\n", cudaGetErrorName(code));
        return 77;
    }
    return doctest::Context(count, words).run();
}
