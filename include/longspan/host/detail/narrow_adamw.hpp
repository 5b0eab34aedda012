// SPDX-License-Identifier: Apache-2.0
//
// Bodies of host/narrow_adamw.hpp.
#pragma once

#include <longspan/host/adamw.hpp>
#include <longspan/host/narrow_adamw.hpp>

namespace longspan::host {

namespace detail {

inline constexpr index narrow_block = 256;
/// As floats while they are computed on.
struct narrow_values {
    alignas(64) float of[narrow_block];
};

/// bf16, each of `count` elements (a multiple of 8) rounded by its own draw.
inline void store_stochastically(const narrow_values& from, bf16* to, index begin, index count, rounded_tensor which, philox_key key) {
    for (index i = 0; i < count; i += 8) {
        const philox_block drawn = rounding_bits(key, (begin + i) / 8, which);
        for (index j = 0; j < 8; ++j) to[i + j] = round_stochastically(from.of[i + j], half_of(drawn, j));
    }
}

/// Moments of `count` elements as floats, and back.
template <rounded_tensor Which>
struct narrow_moments {
    static constexpr bool is_signed = Which == rounded_tensor::first_moment;
    using block = eight_bit_block<is_signed>;

    template <class F>
    static void load(const moment_run<F>& from, narrow_values& to, index count) {
        if constexpr (std::same_as<F, eight_bit>) {
            const float scale = *from.scales;
            for (index i = 0; i < count; ++i) to.of[i] = block::decoded(from.values[i], scale);
        } else {
            for (index i = 0; i < count; ++i) to.of[i] = to_compute(from.values[i]);
        }
    }
    template <class F>
    static void store(const narrow_values& from, const moment_run<F>& to, index begin, index count, philox_key key) {
        if constexpr (std::same_as<F, eight_bit>) {
            *to.scales = block::encode(from.of, count, to.values);
        } else if constexpr (std::same_as<F, bf16>) {
            store_stochastically(from, to.values, begin, count, Which, key);
        } else {
            for (index i = 0; i < count; ++i) to.values[i] = from.of[i];
        }
    }
};

template <class Master, class Weight, class Gradient, class Moment>
void narrow_adamw_block(const update_run<Master, Weight, Gradient, Moment>& run, index at, index count, const adamw_packs<float>* updates,
                        philox_key key) {
    using vector = pack<float>;
    using first = narrow_moments<rounded_tensor::first_moment>;
    using second = narrow_moments<rounded_tensor::second_moment>;
    constexpr bool alone = std::same_as<Master, void>;
    narrow_values m, v, p;
    first::load(run.first.from(at), m, count);
    second::load(run.second.from(at), v, count);
    for (index i = 0; i < count; i += vector::lanes) {
        vector parameter, a = vector::load(m.of + i), b = vector::load(v.of + i);
        if constexpr (alone) parameter = vector::load(run.weights + at + i);
        else parameter = vector::load(run.masters + at + i);
        updates[run.decays[(at + i) / 128] != 0 ? 0 : 1](vector::load(run.gradients + at + i), a, b, parameter);
        a.store(m.of + i);
        b.store(v.of + i);
        parameter.store(p.of + i);
        if constexpr (!alone) parameter.store(run.masters + at + i);
        if constexpr (!alone && !std::same_as<Weight, void>) parameter.store(run.weights + at + i);
    }
    first::store(m, run.first.from(at), run.begin + at, count, key);
    second::store(v, run.second.from(at), run.begin + at, count, key);
    if constexpr (alone) store_stochastically(p, run.weights + at, run.begin + at, count, rounded_tensor::weight, key);
}

}  // namespace detail

template <class Master, class Weight, class Gradient, class Moment>
void narrow_adamw_step(const update_run<Master, Weight, Gradient, Moment>& run, const adamw_update* updates, philox_key key) {
    using run_type = update_run<Master, Weight, Gradient, Moment>;
    static_assert(!std::same_as<Master, void> || std::same_as<Weight, bf16>, "narrow_adamw_step: weights without masters are bf16");
    expects(run.begin % run_type::granularity == 0 && run.size % run_type::granularity == 0, [&] {
        return "narrow_adamw: expected a run that begins and ends at multiples of " + std::to_string(run_type::granularity) +
               " elements, got one of " + std::to_string(run.size) + " from " + std::to_string(run.begin);
    });
    const detail::adamw_packs<float> arithmetic[2] = {detail::adamw_packs<float>(updates[0]), detail::adamw_packs<float>(updates[1])};
    parallel_for(ceil_div(run.size, detail::adamw_chunk), [&](index chunk) {
        const index end = run.size < (chunk + 1) * detail::adamw_chunk ? run.size : (chunk + 1) * detail::adamw_chunk;
        for (index at = chunk * detail::adamw_chunk; at < end; at += detail::narrow_block)
            detail::narrow_adamw_block(run, at, end - at < detail::narrow_block ? end - at : detail::narrow_block, arithmetic, key);
    });
}

}  // namespace longspan::host
