// SPDX-License-Identifier: Apache-2.0
//
// How threads share a row that they reduce: a power of two of lanes, each with packets next to those of its neighbours; as few that
// a lane holds at most `Most` packets. A CTA walks its rows; while it reduces one, the next ones are on their way to shared memory,
// where each lane's packets are its own: waiting for them is its own affair, too.
#pragma once

#include <longspan/cuda/detail/held_packet.cuh>
#include <longspan/cuda/norm.cuh>
#include <longspan/cuda/ptx/cp_async.cuh>

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

/// How many rows a thread block has on their way at a time: as many of `stage` bytes as fit `room`, and 1 where two do not fit.
[[nodiscard]] constexpr int stages_within(bytes room, bytes stage) {
    return room / stage < 2 ? 1 : room / stage > 4 ? 4 : static_cast<int>(room / stage);
}

/// A lane's packets of the row at hand and of the Stages - 1 after it, as they are stored. With one stage they lie in registers,
/// otherwise at `bytes` of shared memory.
template <class Shape, int Stages, class T>
class row_source {
public:
    using packet = held_packet<T, Shape::n>;
    static constexpr int stage = Shape::each * norm_threads * static_cast<int>(sizeof(packet));  // bytes of a stage
    static constexpr int size = Stages > 1 ? Stages * stage : 0;

    __device__ explicit row_source(std::byte* memory) : mine_(reinterpret_cast<packet*>(memory) + threadIdx.x) {}

    /// Asks for a row, or for zeros unless `live`; ptx::commit_copies and wait_copies follow.
    __device__ __forceinline__ void ask(int slot, const T* row, int lane, bool live) {
#pragma unroll
        for (int k = 0; k < Shape::each; ++k) {
            if (!Shape::has(lane, k)) continue;
            packet* const to = mine_ + (slot * Shape::each + k) * norm_threads;
            const T* const from = row + Shape::column(lane, k);
            if constexpr (Stages > 1 && sizeof(packet) == 16) {
                ptx::copy_16(ptx::shared_address(to), from, live);
            } else if constexpr (Stages > 1 && sizeof(packet) == 8) {
                ptx::copy_8(ptx::shared_address(to), from, live);
            } else {
                packet value{};
                if (live) value.load(from);
                if constexpr (Stages > 1) *to = value;
                else held_[k] = value;
            }
        }
    }
    /// What lies beyond the row is 0.
    __device__ __forceinline__ packet get(int slot, int lane, int k) const {
        if (!Shape::has(lane, k)) return {};
        if constexpr (Stages > 1) return mine_[(slot * Shape::each + k) * norm_threads];
        else return held_[k];
    }

private:
    packet* mine_;
    packet held_[Stages > 1 ? 1 : Shape::each];
};

/// Parameters next to each other as they are stored, N of them: floats, too, where the rows are of two bytes.
template <class W, int N>
class held_parameters {
    static constexpr int part = N * static_cast<int>(sizeof(W)) > 16 ? 16 / static_cast<int>(sizeof(W)) : N;
    held_packet<W, part> parts_[N / part];

public:
    static constexpr int size = N * static_cast<int>(sizeof(W));
    __device__ __forceinline__ void load(const W* from) {
#pragma unroll
        for (int i = 0; i < N / part; ++i) parts_[i].load(from + i * part);
    }
    __device__ __forceinline__ float operator[](int i) const { return parts_[i / part][i % part]; }
};

/// Two sums over the lanes of a row, the same in all of them. Every thread of the CTA takes part; `turn`, 0 at first, is the
/// CTA's own.
template <int Lanes>
__device__ __forceinline__ float2 sum_over_lanes(float2 value, int& turn) {
#pragma unroll
    for (int distance = (Lanes < 32 ? Lanes : 32) / 2; distance > 0; distance /= 2) {
        value.x += __shfl_xor_sync(0xffffffffu, value.x, distance);
        value.y += __shfl_xor_sync(0xffffffffu, value.y, distance);
    }
    if constexpr (Lanes > 32) {
        __shared__ float2 warps[2][norm_threads / 32];  // of this sum and the last: who writes has seen all read the one before it
        constexpr int group = Lanes / 32;
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (threadIdx.x % 32 == 0) warps[turn][warp] = value;
        __syncthreads();
        value = make_float2(0, 0);
#pragma unroll
        for (int w = 0; w < group; ++w) {
            const float2 more = warps[turn][warp / group * group + w];
            value.x += more.x;
            value.y += more.y;
        }
        turn ^= 1;
    }
    return value;
}
template <int Lanes>
__device__ __forceinline__ float sum_over_lanes(float value, int& turn) {
    return sum_over_lanes<Lanes>(make_float2(value, 0), turn).x;
}

/// The mean of some values and the sum of their squares about it.
struct row_moments {
    float mean, squares;

    /// Of two sets of `count` values each (Chan, Golub and LeVeque 1983): the same whichever comes first.
    [[nodiscard]] __device__ static row_moments of_both(row_moments a, row_moments b, float count) {
        const float apart = b.mean - a.mean;
        return {0.5f * (a.mean + b.mean), fmaf(apart * apart, 0.5f * count, a.squares + b.squares)};
    }
};

/// The moments of a row from those of its lanes' `count` values each: one exchange for both. Every thread of the CTA takes part.
template <int Lanes>
__device__ __forceinline__ row_moments moments_over_lanes(row_moments of, int count, int& turn) {
    float each = static_cast<float>(count);
#pragma unroll
    for (int distance = (Lanes < 32 ? Lanes : 32) / 2; distance > 0; distance /= 2, each *= 2) {
        const row_moments other{__shfl_xor_sync(0xffffffffu, of.mean, distance), __shfl_xor_sync(0xffffffffu, of.squares, distance)};
        of = row_moments::of_both(of, other, each);
    }
    if constexpr (Lanes > 32) {
        __shared__ row_moments warps[2][norm_threads / 32];  // as in sum_over_lanes
        constexpr int group = Lanes / 32;
        const int warp = static_cast<int>(threadIdx.x) / 32;
        if (threadIdx.x % 32 == 0) warps[turn][warp] = of;
        __syncthreads();
        row_moments parts[group];
#pragma unroll
        for (int w = 0; w < group; ++w) parts[w] = warps[turn][warp / group * group + w];
#pragma unroll
        for (int near = 1; near < group; near *= 2, each *= 2)
#pragma unroll
            for (int w = 0; w < group; w += 2 * near) parts[w] = row_moments::of_both(parts[w], parts[w + near], each);
        of = parts[0];
        turn ^= 1;
    }
    return of;
}

/// Launches a kernel over rows with `memory` bytes of shared memory for those on their way, beside the little that it has by itself.
template <class Call>
void launch_rows(const char* op, stream_ref stream, void (*kernel)(Call), index ctas, int memory, const Call& call) {
    if (memory > (40 << 10)) check(cudaFuncSetAttribute(kernel, cudaFuncAttributeMaxDynamicSharedMemorySize, memory), op, memory);
    kernel<<<static_cast<unsigned>(ctas), norm_threads, static_cast<std::size_t>(memory), stream>>>(call);
    check_launch(op);
}

}  // namespace longspan::cuda::detail
