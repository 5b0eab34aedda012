// SPDX-License-Identifier: Apache-2.0
//
// Numbers about a whole run of values: Σ x² (a gradient's norm) and the first value that is not finite. One read of the run.
//
// The sum is in double, in sum_parts parts and then over the parts, each in a fixed order: the same bits every time, on every
// device. A search uses integer minima, whose order does not matter.
#pragma once

#include <cstddef>
#include <span>

#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/reduce_sizes.hpp>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

namespace detail {

inline constexpr int reduce_threads = 256;

/// The sum over a CTA, in thread 0: by halves of a warp, then over the warps in order.
__device__ __forceinline__ double sum_over_cta(double value) {
    __shared__ double warps[reduce_threads / 32];
#pragma unroll
    for (int distance = 16; distance > 0; distance /= 2) value += __shfl_down_sync(0xffffffffu, value, distance);
    if (threadIdx.x % 32 == 0) warps[threadIdx.x / 32] = value;
    __syncthreads();
    double total = 0;
    if (threadIdx.x == 0) {
#pragma unroll
        for (int w = 0; w < reduce_threads / 32; ++w) total += warps[w];
    }
    return total;
}

template <class T>
__global__ void __launch_bounds__(reduce_threads) square_parts(const T* values, index count, double* parts) {
    constexpr int n = 16 / static_cast<int>(sizeof(T));
    double sum = 0;
    const index stride = sum_parts * index{reduce_threads} * n;
    for (index i = (blockIdx.x * index{reduce_threads} + threadIdx.x) * n; i < count; i += stride) {
        float x[n] = {};
        if (i + n <= count) read(values + i, x);
        else
            for (index j = i; j < count; ++j) x[j - i] = widen(values[j]);
#pragma unroll
        for (int j = 0; j < n; ++j) sum = fma(static_cast<double>(x[j]), static_cast<double>(x[j]), sum);
    }
    const double total = sum_over_cta(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

inline __device__ void add_parts(const double* parts, double* out) {
    double sum = 0;
    for (index i = threadIdx.x; i < sum_parts; i += reduce_threads) sum += parts[i];
    const double total = sum_over_cta(sum);
    if (threadIdx.x == 0) *out = total;
}
template <int = 0>
__global__ void __launch_bounds__(reduce_threads) sum_of_parts(const double* parts, double* out) {
    add_parts(parts, out);
}

template <int = 0>
__global__ void begin_search(index* out) {
    *out = INT64_MAX;
}
template <int = 0>
__global__ void end_search(index* out) {
    if (*out == INT64_MAX) *out = -1;
}
template <class T>
__global__ void __launch_bounds__(reduce_threads) search_non_finite(const T* values, index count, index* out) {
    for (index i = blockIdx.x * index{reduce_threads} + threadIdx.x; i < count; i += gridDim.x * index{reduce_threads}) {
        const float x = widen(values[i]);
        if (x - x != 0) {
            atomicMin(reinterpret_cast<long long*>(out), static_cast<long long>(i));
            return;  // what this thread would still see lies further on
        }
    }
}

}  // namespace detail

/// *out = Σ x², all in double. `values` start at a multiple of 16 bytes; `workspace`: sum_of_squares_workspace() bytes at a
/// multiple of 8.
template <class T>
void sum_of_squares(stream_ref stream, std::span<T> values, double* out, std::byte* workspace) {
    expect_pointer("sum_of_squares", "out", out, sizeof(double));
    expect_pointer("sum_of_squares", "workspace", workspace, sizeof(double));
    if (!values.empty()) expect_pointer("sum_of_squares", "values", values.data(), 16);
    double* const parts = reinterpret_cast<double*>(workspace);
    using element = std::remove_const_t<T>;
    detail::square_parts<element><<<sum_parts, detail::reduce_threads, 0, stream>>>(values.data(), static_cast<index>(values.size()), parts);
    detail::sum_of_parts<<<1, detail::reduce_threads, 0, stream>>>(parts, out);
    check_launch("sum_of_squares");
}

/// *out = the first element that is not finite, or −1.
template <class T>
void first_non_finite(stream_ref stream, std::span<T> values, index* out) {
    expect_pointer("first_non_finite", "out", out, sizeof(index));
    using element = std::remove_const_t<T>;
    detail::begin_search<<<1, 1, 0, stream>>>(out);
    if (!values.empty()) {
        const index ctas = ceil_div(static_cast<index>(values.size()), detail::reduce_threads);
        detail::search_non_finite<element>
            <<<static_cast<unsigned>(ctas < 1056 ? ctas : 1056), detail::reduce_threads, 0, stream>>>(values.data(), static_cast<index>(values.size()), out);
    }
    detail::end_search<<<1, 1, 0, stream>>>(out);
    check_launch("first_non_finite");
}

}  // namespace longspan::cuda
