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

/// One element, rounding by rounding as the host does it.
__device__ __forceinline__ void adamw_element(const adamw_floats& u, float gradient_sum, float& m, float& v, float& p) {
    const float g = __fmul_rn(gradient_sum, u.factor);
    m = fmaf(u.beta1, m, __fmul_rn(u.fresh1, g));
    v = fmaf(u.beta2, v, __fmul_rn(__fmul_rn(u.fresh2, g), g));
    p = fmaf(u.kept, p, __fmul_rn(u.step, __fdiv_rn(m, fmaf(__fsqrt_rn(v), u.root, u.epsilon))));
}

/// Weight is void where nothing reads a copy.
template <class Weight>
__global__ void __launch_bounds__(adamw_threads) adamw_kernel(float* masters, Weight* weights, const float* gradients, float* first, float* second,
                                                              index count, const std::uint8_t* decays, const adamw_update* updates,
                                                              const int* apply) {
    constexpr int n = 4;
    __shared__ adamw_floats scalars[2];
    __shared__ bool applied;
    const index i = (blockIdx.x * index{adamw_threads} + threadIdx.x) * n;
    const bool whole = i + n <= count;
    float g[n], m[n], v[n], p[n];
    if (whole) {  // under way while the scalars are read
        read(gradients + i, g);
        read(first + i, m);
        read(second + i, v);
        read(masters + i, p);
    }
    if (threadIdx.x < 2) scalars[threadIdx.x] = floats_of(updates[threadIdx.x]);
    if (threadIdx.x == 0) applied = *apply != 0;
    __syncthreads();
    if (!applied || i >= count) return;
    const adamw_floats u = scalars[decays[i / 128] != 0 ? 0 : 1];
    if (whole) {
#pragma unroll
        for (int j = 0; j < n; ++j) adamw_element(u, g[j], m[j], v[j], p[j]);
        write(first + i, m);
        write(second + i, v);
        write(masters + i, p);
        if constexpr (!std::is_void_v<Weight>) write(weights + i, p);
    } else {
        for (index j = i; j < count; ++j) {
            float parameter = masters[j];
            adamw_element(u, gradients[j], first[j], second[j], parameter);
            masters[j] = parameter;
            if constexpr (!std::is_void_v<Weight>) weights[j] = narrow<Weight>(parameter);
        }
    }
}

}  // namespace detail

/// Updates masters and moments in place from gradient sums, and writes each parameter, rounded once, to `weights`, which may be the
/// masters themselves, or empty where nothing reads a copy. All other spans have one length and start at multiples of 16 bytes.
/// `decays`: a byte for every 128 elements; where it is not 0 updates[0] holds, elsewhere updates[1]. Nothing changes where *apply is
/// 0. `decays`, `updates` and `apply` are device memory. Deterministic: the arithmetic is the host's, to the bit.
template <class Master, class Weight, class G, class M>
    requires std::is_same_v<Master, float> && std::is_same_v<std::remove_const_t<G>, float> && std::is_same_v<M, float>
void adamw(stream_ref stream, std::span<Master> masters, std::span<Weight> weights, std::span<G> gradients, std::span<M> first, std::span<M> second,
           const std::uint8_t* decays, const adamw_update* updates, const int* apply) {
    const std::size_t size = masters.size();
    expects((weights.size() == size || weights.empty()) && gradients.size() == size && first.size() == size && second.size() == size, [&] {
        return "adamw: expected spans of one length, got " + std::to_string(size) + " masters, " + std::to_string(weights.size()) + " weights, " +
               std::to_string(gradients.size()) + " gradients, " + std::to_string(first.size()) + " and " + std::to_string(second.size()) + " moments";
    });
    if (size == 0) return;
    expect_pointer("adamw", "masters", masters.data(), 16);
    if (!weights.empty()) expect_pointer("adamw", "weights", weights.data(), 4 * sizeof(Weight));
    expect_pointer("adamw", "gradients", gradients.data(), 16);
    expect_pointer("adamw", "first moments", first.data(), 16);
    expect_pointer("adamw", "second moments", second.data(), 16);
    expect_pointer("adamw", "decays", decays, 1);
    expect_pointer("adamw", "updates", updates, alignof(adamw_update));
    expect_pointer("adamw", "apply", apply, alignof(int));
    const auto ctas = static_cast<unsigned>(ceil_div(static_cast<index>(size), index{4} * detail::adamw_threads));
    const auto launch = [&](auto* copy) {
        detail::adamw_kernel<<<ctas, detail::adamw_threads, 0, stream>>>(masters.data(), copy, gradients.data(), first.data(), second.data(),
                                                                         static_cast<index>(size), decays, updates, apply);
    };
    if (weights.empty() || static_cast<const void*>(weights.data()) == masters.data()) launch(static_cast<void*>(nullptr));
    else launch(weights.data());
    check_launch("adamw");
}

}  // namespace longspan::cuda
