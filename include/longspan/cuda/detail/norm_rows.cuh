// SPDX-License-Identifier: Apache-2.0
//
// How threads share a row that they reduce: a power of two of lanes, each with packets next to those of its neighbours; as few that
// a lane holds at most `Most` packets, so that a row stays in registers. A CTA walks its rows; the next ones are read, as they are
// stored, before the present ones are reduced.
#pragma once

#include <longspan/cuda/detail/held_packet.cuh>
#include <longspan/cuda/norm.cuh>

namespace longspan::cuda::detail {

inline constexpr int norm_threads = 256;

template <index Width, int Most, class... T>
struct row_shape {
    static constexpr int n = common_packet<Width, T...>;                   // elements of a packet
    static constexpr int packets = static_cast<int>(Width / n);
    static constexpr int lanes = [] {
        int count = 1;
        while (2 * count <= packets && 2 * count <= 32) count *= 2;
        while (packets > Most * count && count < norm_threads) count *= 2;
        return count;
    }();
    static constexpr int each = (packets + lanes - 1) / lanes;             // packets of a lane
    static constexpr int rows = norm_threads / lanes;                      // rows of a CTA at a time
    static constexpr bool whole = packets % lanes == 0;                    // every lane's last packet is there
    static_assert(each <= 16, "norm: rows of at most 32,768 elements of two bytes");

    /// First column of a lane's packet k.
    __device__ static int column(int lane, int k) { return (lane + k * lanes) * n; }
    __device__ static bool has(int lane, int k) { return whole || lane + k * lanes < packets; }
};

/// Rows of `Width` elements, `heads` of them side by side in each row of a view.
template <class T>
struct head_rows {
    T* data = nullptr;
    index stride = 0, heads = 1;

    head_rows() = default;
    head_rows(matrix_view<T> view, index heads_) : data(view.data), stride(view.stride), heads(heads_) {}
    template <index Width>
    __device__ T* row(index r) const {
        return heads == 1 ? data + r * stride : data + r / heads * stride + r % heads * Width;
    }
};

/// A lane's packets of a row, as they are stored.
template <class Shape, class T>
struct held_row {
    held_packet<T, Shape::n> packets[Shape::each];

    __device__ __forceinline__ void load(const T* row, int lane) {
#pragma unroll
        for (int k = 0; k < Shape::each; ++k) {
            if (Shape::has(lane, k)) packets[k].load(row + Shape::column(lane, k));
        }
    }
    /// What lies beyond the row is 0.
    __device__ __forceinline__ float of(int lane, int k, int j) const { return Shape::has(lane, k) ? packets[k][j] : 0.0f; }
};

/// Two sums over the lanes of a row, the same in all of them. Every thread of the CTA takes part.
template <int Lanes>
__device__ __forceinline__ float2 sum_over_lanes(float2 value) {
#pragma unroll
    for (int distance = (Lanes < 32 ? Lanes : 32) / 2; distance > 0; distance /= 2) {
        value.x += __shfl_xor_sync(0xffffffffu, value.x, distance);
        value.y += __shfl_xor_sync(0xffffffffu, value.y, distance);
    }
    if constexpr (Lanes > 32) {
        __shared__ float2 warps[norm_threads / 32];
        constexpr int group = Lanes / 32;
        const int warp = static_cast<int>(threadIdx.x) / 32;
        __syncthreads();  // the sums before were read
        if (threadIdx.x % 32 == 0) warps[warp] = value;
        __syncthreads();
        value = make_float2(0, 0);
#pragma unroll
        for (int w = 0; w < group; ++w) {
            const float2 more = warps[warp / group * group + w];
            value.x += more.x;
            value.y += more.y;
        }
    }
    return value;
}
template <int Lanes>
__device__ __forceinline__ float sum_over_lanes(float value) {
    return sum_over_lanes<Lanes>(make_float2(value, 0)).x;
}

}  // namespace longspan::cuda::detail
