// SPDX-License-Identifier: Apache-2.0
//
// The waves of sinusoidal and rotary positions: cos and sin of position · base^(−2j/width), for 8 frequencies at a time.
//
// An angle of position p is p times a frequency. A double's frequency is off by 2^-53 of itself, so at p = 4,000,000 the angle is
// off by 4·10⁻¹⁰: enough to change floats near the zeros of a wave. So frequencies are pairs of doubles (106 bits), counted in
// turns instead of radians: the product with p is exact to 2^-80, whole quarters of a turn drop out of it without error, and
// what is left goes through the usual polynomials on ±π/4. Cosine and sine are right to 2·10⁻¹⁶ for p up to 2^40, a function of
// p and j alone, the same on every machine with IEEE arithmetic. About 3 ns for 8 angles.
//
// References: T. Dekker, "A floating-point technique for extending the available precision", 1971; fdlibm (kernel polynomials).
#pragma once

#include <cmath>
#include <cstring>

#include <longspan/host/detail/rows.hpp>
#include <longspan/host/simd.hpp>

namespace longspan::host::detail {

/// high + low, |low| at most half a unit in the last place of high.
template <class Number>
struct twofold {
    Number high, low;
};

[[nodiscard]] inline twofold<double> product(twofold<double> a, twofold<double> b) {
    const double p = a.high * b.high;
    const double e = std::fma(a.high, b.low, std::fma(a.low, b.high, std::fma(a.high, b.high, -p)));
    const double high = p + e;
    return {high, e - (high - p)};
}
[[nodiscard]] LONGSPAN_INLINE twofold<pack<double>> product(const twofold<pack<double>>& a, const twofold<pack<double>>& b) {
    const pack<double> p = a.high * b.high;
    const pack<double> e = fma(a.high, b.low, fma(a.low, b.high, fma(a.high, b.high, -p)));
    const pack<double> high = p + e;
    return {high, e - (high - p)};
}

/// base^(−1/n): a double's answer, and one step of Newton for r^n · base = 1.
[[nodiscard]] inline twofold<double> inverse_root(double base, index n) {
    const double start = std::pow(base, -1.0 / static_cast<double>(n));
    twofold<double> power{base, 0}, square{start, 0};
    for (index left = n; left > 0; left /= 2) {
        if (left % 2 == 1) power = product(power, square);
        square = product(square, square);
    }
    const double step = -((power.high - 1) + power.low) / static_cast<double>(n) * start;
    const double high = start + step;
    return {high, step - (high - start)};
}

struct cosine_and_sine {
    pack<double> cosine, sine;
};

/// cos and sin of 2π · turns · position.
[[nodiscard]] LONGSPAN_INLINE cosine_and_sine wave(const twofold<pack<double>>& turns, pack<double> position) {
    using real = pack<double>;
    using bits = register_t<lane_word<double>>;
    using reals = register_t<double>;
    constexpr double sine[] = {1.58969099521155010221e-10, -2.50507602534068634195e-08, 2.75573137070700676789e-06,
                               -1.98412698298579493134e-04, 8.33333333332248946124e-03, -1.66666666666666324348e-01};
    constexpr double cosine[] = {-1.13596475577881948265e-11, 2.08757232129817482790e-09,  -2.75573143513906633035e-07,
                                 2.48015872894767294178e-05,  -1.38888888888741095749e-03, 4.16666666666666019037e-02};
    const real whole = turns.high * position;
    const real rest = fma(turns.low, position, fma(turns.high, position, -whole));
    const real to_integer = real::broadcast(constants<double>::to_integer);
    const real shifted = fma(whole, real::broadcast(4), to_integer);  // the nearest quarter in the low bits
    const real angle = (fma(shifted - to_integer, real::broadcast(-0.25), whole) + rest) * real::broadcast(0x1.921fb54442d18p+2);
    const real z = angle * angle;
    const real s = fma(angle * z, polynomial(z, sine), angle);
    const real c = fma(z * z, polynomial(z, cosine), fma(z, real::broadcast(-0.5), real::broadcast(1)));
    cosine_and_sine result;
    for (int i = 0; i < real::registers; ++i) {
        const bits quarter = reinterpret<bits>(shifted.part[i]);
        const auto odd = reinterpret<typename pack_mask<double>::register_type>(bits{} - (quarter & 1u));
        const reals along = odd ? s.part[i] : c.part[i], across = odd ? c.part[i] : s.part[i];
        // Signs: cos is negative in quarters 1 and 2, sin in 2 and 3.
        result.cosine.part[i] = reinterpret<reals>(reinterpret<bits>(along) ^ (((quarter + 1u) & 2u) << 62));
        result.sine.part[i] = reinterpret<reals>(reinterpret<bits>(across) ^ ((quarter & 2u) << 62));
    }
    return result;
}

/// to[0 .. count) = the first lanes, rounded once.
template <std::floating_point S>
LONGSPAN_INLINE void write_lanes(pack<double> value, S* to, index count) {
    if constexpr (std::is_same_v<S, double>) {
        write(value, to, 0, count);
    } else {
        typedef S half_register __attribute__((vector_size(register_bytes / 2)));
        S lanes[pack<double>::lanes];
        for (int i = 0; i < pack<double>::registers; ++i) {
            const half_register rounded = __builtin_convertvector(value.part[i], half_register);
            std::memcpy(lanes + i * pack<double>::lanes_each, &rounded, sizeof rounded);
        }
        if (count == pack<double>::lanes) std::memcpy(to, lanes, sizeof lanes);
        else std::memcpy(to, lanes, static_cast<std::size_t>(count) * sizeof(S));
    }
}

inline constexpr index turn_rows = 64;  // tokens of a task
inline constexpr index turn_group = 4;  // tokens that share one walk over the frequencies

/// The frequencies base^(−2j/width) in turns, 8 at a time from j = 0 on.
class turns_of_pairs {
public:
    turns_of_pairs(double base, index width) {
        constexpr int lanes = pack<double>::lanes;
        const twofold<double> root = inverse_root(base, width), ratio = product(root, root);
        twofold<double> next{0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57}, step{1, 0};  // 1 / 2π
        double high[lanes], low[lanes];
        for (int j = 0; j < lanes; ++j) {
            high[j] = next.high, low[j] = next.low;
            next = product(next, ratio);
            step = product(step, ratio);
        }
        first_ = {pack<double>::load(high), pack<double>::load(low)};
        step_ = {pack<double>::broadcast(step.high), pack<double>::broadcast(step.low)};
    }

    /// f(first j, pairs in use, turns) for the packs of `pairs` frequencies.
    template <class F>
    LONGSPAN_INLINE void for_each(index pairs, F&& f) const {
        twofold<pack<double>> turns = first_;
        for_packs<double>(pairs, [&](index j, index count) __attribute__((always_inline)) {
            f(j, count, turns);
            turns = product(turns, step_);
        });
    }

private:
    twofold<pack<double>> first_, step_;
};

/// f(token, first j, pairs in use, cosine and sine) for every token and `pairs` frequencies, 8 at a time.
template <class F>
void for_each_wave(const piece_table& pieces, index pairs, const turns_of_pairs& frequencies, F&& f) {
    for_row_blocks(pieces.tokens, turn_rows, [&](index begin, index end) {
        index position[turn_rows];
        positions_of(pieces, begin, end, position);
        for (index first = begin; first < end; first += turn_group) {
            const index last = first + turn_group < end ? first + turn_group : end;
            frequencies.for_each(pairs, [&](index j, index count, const twofold<pack<double>>& turns) __attribute__((always_inline)) {
                for (index t = first; t < last; ++t)
                    f(t, j, count, wave(turns, pack<double>::broadcast(static_cast<double>(position[t - begin]))));
            });
        }
    });
}

}  // namespace longspan::host::detail
