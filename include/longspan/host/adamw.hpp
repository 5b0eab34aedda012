// SPDX-License-Identifier: Apache-2.0
//
// The AdamW update of optim/adamw.hpp over one contiguous run of parameters, on the host. One pass: reads gradient, master and
// both moments, writes master, moments and the weight as the forward pass will read it, so it runs at the memory's speed: per
// parameter 16 bytes read and 12 written in float, and 2 more where weights are stored in two bytes.
//
// Deterministic: every element depends on its own five numbers only, and its bits not on its place.
#pragma once

#include <concepts>
#include <span>
#include <string>
#include <type_traits>

#include <longspan/core/adamw_update.hpp>
#include <longspan/core/error.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/host/parallel.hpp>

namespace longspan::host {

/// Updates `masters`, `first` and `second` (both 0 before the first update) in place from gradient sums, and writes each
/// parameter, rounded to nearest even, to `weights`: the copy that the model reads. `weights` may be `masters` itself, or empty
/// where nothing reads a copy. Otherwise all spans have one length; throws bad_argument if not, before anything changes.
template <std::floating_point T, class Weight>
void adamw_step(std::span<T> masters, std::span<Weight> weights, std::span<const std::type_identity_t<T>> gradients,
                std::span<std::type_identity_t<T>> first, std::span<std::type_identity_t<T>> second,
                const adamw_update& update);

namespace detail {

// Fixed: 16,384 floats of each of five arrays are 320 KiB, enough for a thread to be worth waking, and every chunk but the
// last is whole packs.
inline constexpr index adamw_chunk = 16384;

/// The arithmetic of an update on a pack of elements, whatever they are stored as.
template <class T>
struct adamw_packs {
    using vector = pack<T>;
    vector factor, beta1, fresh1, beta2, fresh2, kept, step, root, epsilon;

    explicit adamw_packs(const adamw_update& u)
        : factor(all(u.gradient_factor)), beta1(all(u.beta1)),
          // 1 − β is taken in double: in float it would be off by 2⁻²⁵/(1 − β).
          fresh1(all(1.0 - u.beta1)), beta2(all(u.beta2)), fresh2(all(1.0 - u.beta2)), kept(all(u.kept)), step(all(-u.step)),
          root(all(u.root_factor)), epsilon(all(u.epsilon)) {}

    LONGSPAN_INLINE void operator()(vector gradient_sums, vector& m, vector& v, vector& p) const {
        const vector g = gradient_sums * factor;
        m = fma(beta1, m, fresh1 * g);
        v = fma(beta2, v, fresh2 * g * g);
        p = fma(kept, p, step * (m / fma(sqrt(v), root, epsilon)));
    }

private:
    static vector all(double value) { return vector::broadcast(static_cast<T>(value)); }
};

template <class T, class Weight>
void adamw_run(T* masters, Weight* weights, const T* gradients, T* first, T* second, index count, const adamw_update& update) {
    using vector = pack<T>;
    const adamw_packs<T> arithmetic(update);
    parallel_for(ceil_div(count, adamw_chunk), [&](index chunk) {
        const index end = count < (chunk + 1) * adamw_chunk ? count : (chunk + 1) * adamw_chunk;
        for (index i = chunk * adamw_chunk; i < end; i += vector::lanes) {
            const index live = end - i < vector::lanes ? end - i : vector::lanes;
            const auto read = [&](const T* from) {
                return live == vector::lanes ? vector::load(from + i) : vector::load(from + i, live);
            };
            const auto write = [&](vector value, auto* to) {
                if (live == vector::lanes)
                    value.store(to + i);
                else
                    value.store(to + i, live);
            };
            vector m = read(first), v = read(second), p = read(masters);
            arithmetic(read(gradients), m, v, p);
            write(m, first);
            write(v, second);
            write(p, masters);
            if constexpr (!std::same_as<Weight, void>) write(p, weights);
        }
    });
}

}  // namespace detail

template <std::floating_point T, class Weight>
void adamw_step(std::span<T> masters, std::span<Weight> weights, std::span<const std::type_identity_t<T>> gradients,
                std::span<std::type_identity_t<T>> first, std::span<std::type_identity_t<T>> second,
                const adamw_update& update) {
    constexpr bool known = storage_format<Weight>;
    static_assert(known, "adamw_step: weights are stored as float, double, ls::bf16 or ls::fp16");
    if constexpr (known) {
        constexpr bool one_type = std::same_as<T, compute_t<Weight>>;
        static_assert(one_type, "adamw_step: masters are double for weights in double, and float for all others");
        if constexpr (one_type) {
            const std::size_t n = masters.size();
            expects(
                (weights.empty() || weights.size() == n) && gradients.size() == n && first.size() == n && second.size() == n,
                [&] {
                    return "adamw_step: expected spans of one length, got " + std::to_string(n) + " masters, " +
                           std::to_string(weights.size()) + " weights, " + std::to_string(gradients.size()) + " gradients, " +
                           std::to_string(first.size()) + " and " + std::to_string(second.size()) + " moments";
                });
            const auto run = [&](auto* copy) {
                detail::adamw_run(masters.data(), copy, gradients.data(), first.data(), second.data(), static_cast<index>(n),
                                  update);
            };
            if constexpr (std::same_as<T, Weight>) {
                if (weights.data() == masters.data()) return run(static_cast<void*>(nullptr));
            }
            weights.empty() ? run(static_cast<void*>(nullptr)) : run(weights.data());
        }
    }
}

}  // namespace longspan::host
