// SPDX-License-Identifier: Apache-2.0
// What somebody else's first kernel file does: it calls one op on device memory and a stream of its own.
#include <longspan/cuda/norm.cuh>

#include <vector>

namespace ls = longspan;

/// RMSNorm of one row of 256 numbers; empty where no GPU answers.
std::vector<float> normed(const std::vector<float>& x) {
    int devices = 0;
    if (cudaGetDeviceCount(&devices) != cudaSuccess || devices == 0) return {};
    cudaStream_t stream = nullptr;
    ls::cuda::check(cudaStreamCreate(&stream), "consumer");
    float* memory = nullptr;  // x, weight, y, and 1 / rms
    ls::cuda::check(cudaMalloc(&memory, 1024 * sizeof(float)), "consumer");
    const std::vector<float> ones(256, 1.0f);
    ls::cuda::check(cudaMemcpy(memory, x.data(), 256 * sizeof(float), cudaMemcpyHostToDevice), "consumer");
    ls::cuda::check(cudaMemcpy(memory + 256, ones.data(), 256 * sizeof(float), cudaMemcpyHostToDevice), "consumer");
    ls::cuda::rms_norm<256>(stream, ls::matrix_view<const float>(memory, 1, 256), static_cast<const float*>(memory + 256), 0.0, ls::matrix_view<float>(memory + 512, 1, 256),
                            memory + 768);
    ls::cuda::check(cudaStreamSynchronize(stream), "consumer");
    std::vector<float> y(256);
    ls::cuda::check(cudaMemcpy(y.data(), memory + 512, 256 * sizeof(float), cudaMemcpyDeviceToHost), "consumer");
    cudaFree(memory);
    cudaStreamDestroy(stream);
    return y;
}
