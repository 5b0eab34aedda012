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

inline constexpr int reduce_ahead = 4;  // independent 16-byte loads of a thread

/// f(packet's place, values) for the packets of n of this thread, in order; fewer than n at the end come with zeros behind them.
template <int n, class T, class F>
__device__ __forceinline__ void for_values(const T* values, index count, F&& f) {
    const index whole = count / n, stride = gridDim.x * index{reduce_threads};
    index i = blockIdx.x * index{reduce_threads} + threadIdx.x;
    float x[reduce_ahead][n];
    for (; i + (reduce_ahead - 1) * stride < whole; i += reduce_ahead * stride) {
#pragma unroll
        for (int k = 0; k < reduce_ahead; ++k) read(values + (i + k * stride) * n, x[k]);
#pragma unroll
        for (int k = 0; k < reduce_ahead; ++k) f((i + k * stride) * n, x[k]);
    }
    for (; i < whole; i += stride) {
        read(values + i * n, x[0]);
        f(i * n, x[0]);
    }
    if (i == whole && whole * n < count) {
#pragma unroll
        for (int j = 0; j < n; ++j) x[0][j] = whole * n + j < count ? widen(values[whole * n + j]) : 0.0f;
        f(whole * n, x[0]);
    }
}

template <class T>
__global__ void __launch_bounds__(reduce_threads) square_parts(const T* values, index count, double* parts) {
    double sum = 0;
    for_values<16 / sizeof(T)>(values, count, [&](index, const auto& x) {
        for (const float value : x) sum = fma(static_cast<double>(value), static_cast<double>(value), sum);
    });
    const double total = sum_over_cta(sum);
    if (threadIdx.x == 0) parts[blockIdx.x] = total;
}

template <int = 0>  // a template: a header's kernels are
__global__ void __launch_bounds__(reduce_threads) sum_of_parts(const double* parts, double* out) {
    double sum = 0;
    for (index i = threadIdx.x; i < sum_parts; i += reduce_threads) sum += parts[i];
    const double total = sum_over_cta(sum);
    if (threadIdx.x == 0) *out = total;
}

/// *out, as an unsigned number, is above every place before, and stays so where all values are finite: then it is −1.
template <int N, class T>
__global__ void __launch_bounds__(reduce_threads) search_non_finite(const T* values, index count, index* out) {
    bool found = false;
    for_values<N>(values, count, [&](index at, const auto& x) {
        float zeros = 0;  // or NaN
        for (const float value : x) zeros += value - value;
        if (zeros == 0 || found) return;
        found = true;  // what this thread would still see lies further on
        unsigned long long first = 0;
        for (const float value : x) {
            if (value - value != 0) break;
            ++first;
        }
        atomicMin(reinterpret_cast<unsigned long long*>(out), static_cast<unsigned long long>(at) + first);
    });
}

template <class T>
__global__ void __launch_bounds__(reduce_threads) scale_values(T* values, index count, float factor) {
    constexpr int n = 16 / static_cast<int>(sizeof(T));
    for_values<n, T>(values, count, [&](index at, auto& x) {
        for (float& value : x) value = __fmul_rn(value, factor);
        if (at + n <= count) {
            write(values + at, x);
        } else {
#pragma unroll
            for (int j = 0; j < n; ++j)
                if (at + j < count) values[at + j] = narrow<T>(x[j]);
        }
    });
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
    check(cudaMemsetAsync(out, 0xFF, sizeof(index), stream), "first_non_finite");
    if (values.empty()) return;
    expect_pointer("first_non_finite", "values", values.data(), sizeof(element));
    const bool packets = reinterpret_cast<std::uintptr_t>(values.data()) % 16 == 0;
    const auto launch = [&](auto n) {
        const index ctas = ceil_div(static_cast<index>(values.size()), detail::reduce_threads * index{n.value});
        detail::search_non_finite<n.value, element><<<static_cast<unsigned>(ctas < sum_parts ? ctas : sum_parts), detail::reduce_threads, 0, stream>>>(
            values.data(), static_cast<index>(values.size()), out);
    };
    if (packets) launch(std::integral_constant<int, 16 / sizeof(element)>{});
    else launch(std::integral_constant<int, 1>{});
    check_launch("first_non_finite");
}

/// x *= factor, rounded once. `values` start at a multiple of 16 bytes.
template <class T>
void scale(stream_ref stream, std::span<T> values, float factor) {
    if (values.empty()) return;
    expect_pointer("scale", "values", values.data(), 16);
    const index ctas = ceil_div(static_cast<index>(values.size()), detail::reduce_threads * index{16 / sizeof(T)});
    detail::scale_values<T><<<static_cast<unsigned>(ctas < 65536 ? ctas : 65536), detail::reduce_threads, 0, stream>>>(
        values.data(), static_cast<index>(values.size()), factor);
    check_launch("scale");
}

}  // namespace longspan::cuda
