// SPDX-License-Identifier: Apache-2.0
//
// One AdamW update of a whole store in one launch: clip factor, decay by groups, moments, and the rounded copy that the next
// forward reads (the twin of host/adamw.hpp, where the formula stands):
//
//     g = factor · gradient sum     m ← β₁m + (1−β₁)g     v ← β₂v + (1−β₂)g²     p ← kept·p − step·m / (root·√v + ε)
//
// Scalars come from device memory, so that a step which is replayed takes those of its own update, and one that must not change
// anything does not. Traffic: 30 bytes a parameter with a two-byte copy, 28 without.
#pragma once

#include <cstdint>
#include <span>

#include <longspan/core/adamw_update.hpp>
#include <longspan/cuda/check.cuh>
#include <longspan/cuda/packet.cuh>
#include <longspan/cuda/stream.hpp>

namespace longspan::cuda {

namespace detail {

inline constexpr int adamw_threads = 256;

/// An update's scalars as the arithmetic reads them; 1 − β is taken in double, in float it would be off by 2⁻²⁵ / (1 − β).
struct adamw_floats {
    float factor, beta1, fresh1, beta2, fresh2, kept, step, root, epsilon;
};
[[nodiscard]] __device__ inline adamw_floats floats_of(const adamw_update& u) {
    return {static_cast<float>(u.gradient_factor), static_cast<float>(u.beta1), static_cast<float>(1.0 - u.beta1), static_cast<float>(u.beta2),
            static_cast<float>(1.0 - u.beta2), static_cast<float>(u.kept), static_cast<float>(-u.step), static_cast<float>(u.root_factor),
            static_cast<float>(u.epsilon)};
}

template <class Weight>
__global__ void __launch_bounds__(adamw_threads) adamw_kernel(float* masters, Weight* weights, const float* gradients, float* first, float* second,
                                                              index count, const std::uint8_t* decays, const adamw_update* updates,
                                                              const int* apply) {
    constexpr int n = 4;
    __shared__ adamw_floats scalars[2];
    if (*apply == 0) return;
    if (threadIdx.x < 2) scalars[threadIdx.x] = floats_of(updates[threadIdx.x]);
    __syncthreads();
    const index i = (blockIdx.x * index{adamw_threads} + threadIdx.x) * n;
    if (i >= count) return;
    float g[n], m[n], v[n], p[n];
    read(gradients + i, g);
    read(first + i, m);
    read(second + i, v);
    read(masters + i, p);
    const adamw_floats& u = scalars[decays[i / 128] != 0 ? 0 : 1];
#pragma unroll
    for (int j = 0; j < n; ++j) {
        const float gradient = __fmul_rn(g[j], u.factor);
        m[j] = fmaf(u.beta1, m[j], __fmul_rn(u.fresh1, gradient));
        v[j] = fmaf(u.beta2, v[j], __fmul_rn(__fmul_rn(u.fresh2, gradient), gradient));
        p[j] = fmaf(u.kept, p[j], __fmul_rn(u.step, __fdiv_rn(m[j], fmaf(__fsqrt_rn(v[j]), u.root, u.epsilon))));
    }
    write(first + i, m);
    write(second + i, v);
    write(masters + i, p);
    if constexpr (!std::is_same_v<Weight, float>) write(weights + i, p);
}

}  // namespace detail

/// Updates masters and moments in place from gradient sums, and writes each parameter, rounded once, to `weights`; float weights
/// are the masters themselves. All spans have one length, a multiple of 4, and start at multiples of 16 bytes. `decays`: a byte for
/// every 128 elements; where it is not 0 updates[0] holds, elsewhere updates[1]. Nothing changes where *apply is 0. `decays`,
/// `updates` and `apply` are device memory. The arithmetic is the host's, rounding by rounding: the same bits.
template <class Master, class Weight, class G, class M>
    requires std::is_same_v<Master, float> && std::is_same_v<std::remove_const_t<G>, float> && std::is_same_v<M, float>
void adamw(stream_ref stream, std::span<Master> masters, std::span<Weight> weights, std::span<G> gradients, std::span<M> first, std::span<M> second,
           const std::uint8_t* decays, const adamw_update* updates, const int* apply) {
    const std::size_t size = masters.size();
    expects(weights.size() == size && gradients.size() == size && first.size() == size && second.size() == size && size % 4 == 0, [&] {
        return "adamw: expected spans of one length, a multiple of 4; got " + std::to_string(size) + " masters, " + std::to_string(weights.size()) +
               " weights, " + std::to_string(gradients.size()) + " gradients, " + std::to_string(first.size()) + " and " +
               std::to_string(second.size()) + " moments";
    });
    if (size == 0) return;
    if constexpr (std::is_same_v<Weight, float>) {
        expects(weights.data() == masters.data(), [] { return std::string("adamw: weights in float are the masters themselves; two arrays came"); });
    }
    expect_pointer("adamw", "masters", masters.data(), 16);
    expect_pointer("adamw", "weights", weights.data(), 4 * sizeof(Weight));
    expect_pointer("adamw", "gradients", gradients.data(), 16);
    expect_pointer("adamw", "first moments", first.data(), 16);
    expect_pointer("adamw", "second moments", second.data(), 16);
    expect_pointer("adamw", "decays", decays, 1);
    expect_pointer("adamw", "updates", updates, alignof(adamw_update));
    expect_pointer("adamw", "apply", apply, alignof(int));
    const index ctas = ceil_div(static_cast<index>(size) / 4, detail::adamw_threads);
    detail::adamw_kernel<<<static_cast<unsigned>(ctas), detail::adamw_threads, 0, stream>>>(
        masters.data(), weights.data(), gradients.data(), first.data(), second.data(), static_cast<index>(size), decays, updates, apply);
    check_launch("adamw");
}

}  // namespace longspan::cuda
