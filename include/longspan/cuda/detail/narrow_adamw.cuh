// SPDX-License-Identifier: Apache-2.0
//
// Bodies of cuda/narrow_adamw.cuh.
#pragma once

#include <longspan/cuda/adamw.cuh>
#include <longspan/cuda/narrow_adamw.cuh>
#include <longspan/cuda/packet.cuh>

namespace longspan::cuda {

namespace detail {

inline constexpr int narrow_lane = 8;                    // elements of a lane: one draw of Philox in halves of words
inline constexpr int narrow_block = 32 * narrow_lane;    // of a warp
static_assert(narrow_block == eight_bit::block);

/// Eight values that lie next to each other, and eight codes, in accesses of 16 and 8 bytes.
template <class T>
__device__ __forceinline__ void read_lane(const T* at, float (&x)[narrow_lane]) {
    if constexpr (sizeof(T) == 2) {
        read(at, x);
    } else {
        float low[4], high[4];
        read(at, low);
        read(at + 4, high);
#pragma unroll
        for (int j = 0; j < 4; ++j) x[j] = low[j], x[4 + j] = high[j];
    }
}
template <class T>
__device__ __forceinline__ void write_lane(T* at, const float (&x)[narrow_lane]) {
    if constexpr (sizeof(T) == 2) {
        write(at, x);
    } else {
        const float low[4] = {x[0], x[1], x[2], x[3]}, high[4] = {x[4], x[5], x[6], x[7]};
        write(at, low);
        write(at + 4, high);
    }
}
/// Each rounded by its own draw. `element`: of the first in the store.
__device__ __forceinline__ void write_stochastically(bf16* at, const float (&x)[narrow_lane], index element, rounded_tensor which, philox_key key) {
    const philox_block drawn = rounding_bits(key, element / narrow_lane, which);
    packet<bf16, narrow_lane> made;
#pragma unroll
    for (int j = 0; j < narrow_lane; ++j) made.value[j] = round_stochastically(x[j], half_of(drawn, j));
    *reinterpret_cast<packet<bf16, narrow_lane>*>(at) = made;
}

/// One of the moments of the warp's elements, in registers as stored until they are needed.
template <class Format, rounded_tensor Which>
struct lane_moments {
    static constexpr bool is_signed = Which == rounded_tensor::first_moment;
    struct tables {};
    __device__ static void fill(tables&, int) {}

    float x[narrow_lane];
    __device__ __forceinline__ void load(const moment_run<Format>& from, index at) { read_lane(from.values + at, x); }
    __device__ __forceinline__ void widen(const tables&) {}
    __device__ __forceinline__ void store(const moment_run<Format>& to, index at, index element, philox_key key, const tables&) const {
        if constexpr (std::is_same_v<Format, bf16>) write_stochastically(to.values + at, x, element, Which, key);
        else write_lane(to.values + at, x);
    }
};

template <rounded_tensor Which>
struct lane_moments<eight_bit, Which> {
    static constexpr bool is_signed = Which == rounded_tensor::first_moment;
    using codes = dynamic_values<is_signed>;
    /// In shared memory. Values by code, thresholds by rank.
    struct tables {
        float values[256], thresholds[256];
    };
    __device__ static void fill(tables& t, int rank) {
        t.values[codes::code_of(rank)] = codes::value(rank);
        t.thresholds[rank] = rank > 0 ? codes::threshold(rank) : 0.0f;
    }

    packet<std::uint8_t, narrow_lane> stored;
    float scale;
    float x[narrow_lane];
    __device__ __forceinline__ void load(const moment_run<eight_bit>& from, index at) {
        stored = *reinterpret_cast<const packet<std::uint8_t, narrow_lane>*>(from.values + at);
        scale = from.scales[at / narrow_block];
    }
    __device__ __forceinline__ void widen(const tables& t) {
#pragma unroll
        for (int j = 0; j < narrow_lane; ++j) x[j] = __fmul_rn(t.values[stored.value[j]], scale);
    }
    /// All lanes of the warp together.
    __device__ __forceinline__ void store(const moment_run<eight_bit>& to, index at, index, philox_key, const tables& t) const {
        float largest = 0;
#pragma unroll
        for (int j = 0; j < narrow_lane; ++j) largest = fmaxf(largest, is_signed ? fabsf(x[j]) : x[j]);
        // Floats that are not negative are ordered as their patterns are.
        const float made = eight_bit_scale(__uint_as_float(__reduce_max_sync(0xffffffffu, __float_as_uint(largest))));
        const float inverse = eight_bit_inverse(made);
        packet<std::uint8_t, narrow_lane> kept;
#pragma unroll
        for (int j = 0; j < narrow_lane; ++j) kept.value[j] = codes::code_of(codes::nearest(__fmul_rn(x[j], inverse), t.thresholds));
        *reinterpret_cast<packet<std::uint8_t, narrow_lane>*>(to.values + at) = kept;
        if (threadIdx.x % 32 == 0) to.scales[at / narrow_block] = made;
    }
};

template <class Master, class Weight, class Gradient, class Moment>
__global__ void __launch_bounds__(adamw_threads) narrow_adamw_kernel(update_run<Master, Weight, Gradient, Moment> run, const adamw_update* updates,
                                                                     rounding_source source, const int* apply) {
    using first_type = lane_moments<Moment, rounded_tensor::first_moment>;
    using second_type = lane_moments<Moment, rounded_tensor::second_moment>;
    constexpr bool alone = std::is_void_v<Master>;
    constexpr int warps = adamw_threads / 32;
    static_assert(adamw_threads == 256, "a thread fills one place of every table");
    __shared__ adamw_floats scalars[2];
    __shared__ philox_key key;
    __shared__ typename first_type::tables first_tables;
    __shared__ typename second_type::tables second_tables;
    if (*apply == 0) return;
    if (threadIdx.x < 2) scalars[threadIdx.x] = floats_of(updates[threadIdx.x]);
    if (threadIdx.x == 2) key = source.key();
    first_type::fill(first_tables, static_cast<int>(threadIdx.x));
    second_type::fill(second_tables, static_cast<int>(threadIdx.x));
    __syncthreads();

    // A run in whole blocks keeps its warps whole; else the last warp's upper half may have nothing to do, and no maxima to take part in.
    const index stride = index{gridDim.x} * warps * narrow_block;
    for (index at = (index{blockIdx.x} * warps + threadIdx.x / 32) * narrow_block + threadIdx.x % 32 * narrow_lane; at < run.size; at += stride) {
        first_type m;
        second_type v;
        float g[narrow_lane], p[narrow_lane];
        read_lane(run.gradients + at, g);
        m.load(run.first, at);
        v.load(run.second, at);
        if constexpr (alone) read_lane(run.weights + at, p);
        else read_lane(run.masters + at, p);
        const adamw_floats& u = scalars[run.decays[at / 128] != 0 ? 0 : 1];
        m.widen(first_tables);
        v.widen(second_tables);
#pragma unroll
        for (int j = 0; j < narrow_lane; ++j) adamw_element(u, g[j], m.x[j], v.x[j], p[j]);
        m.store(run.first, at, run.begin + at, key, first_tables);
        v.store(run.second, at, run.begin + at, key, second_tables);
        if constexpr (alone) {
            write_stochastically(run.weights + at, p, run.begin + at, rounded_tensor::weight, key);
        } else {
            write_lane(run.masters + at, p);
            if constexpr (!std::is_void_v<Weight>) write_lane(run.weights + at, p);
        }
    }
}

/// Enough thread blocks to fill any GPU of today; each makes its tables once.
inline constexpr index narrow_ctas = 1056;

}  // namespace detail

template <class Master, class Weight, class Gradient, class Moment>
void narrow_adamw(stream_ref stream, const update_run<Master, Weight, Gradient, Moment>& run, const adamw_update* updates,
                  const rounding_source& source, const int* apply) {
    constexpr index each = update_run<Master, Weight, Gradient, Moment>::granularity;
    constexpr bool alone = std::is_void_v<Master>;
    static_assert(!alone || std::is_same_v<Weight, bf16>, "narrow_adamw: weights without masters are bf16");
    expects(run.begin % each == 0 && run.size % each == 0, [&] {
        return "narrow_adamw: expected a run that begins and ends at multiples of " + std::to_string(each) + " elements, got one of " +
               std::to_string(run.size) + " from " + std::to_string(run.begin);
    });
    if (run.size == 0) return;
    constexpr const char* op = "narrow_adamw";
    if constexpr (!alone) expect_pointer(op, "masters", run.masters, 16);
    if constexpr (!std::is_void_v<Weight>) expect_pointer(op, "weights", run.weights, 16);
    expect_pointer(op, "gradients", run.gradients, 16);
    expect_pointer(op, "first moments", run.first.values, 16);
    expect_pointer(op, "second moments", run.second.values, 16);
    if constexpr (std::is_same_v<Moment, eight_bit>) {
        expect_pointer(op, "scales of the first moments", run.first.scales, 4);
        expect_pointer(op, "scales of the second moments", run.second.scales, 4);
    }
    expect_pointer(op, "decays", run.decays, 1);
    expect_pointer(op, "updates", updates, alignof(adamw_update));
    expect_pointer(op, "seed", source.seed, alignof(std::uint64_t));
    expect_pointer(op, "number of the update", source.update, alignof(index));
    expect_pointer(op, "apply", apply, alignof(int));
    const index ctas = ceil_div(run.size, index{detail::adamw_threads} * detail::narrow_lane);
    detail::narrow_adamw_kernel<<<static_cast<unsigned>(ctas < detail::narrow_ctas ? ctas : detail::narrow_ctas), detail::adamw_threads, 0, stream>>>(
        run, updates, source, apply);
    check_launch(op);
}

}  // namespace longspan::cuda
