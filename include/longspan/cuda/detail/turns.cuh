// SPDX-License-Identifier: Apache-2.0
//
// The waves of sinusoidal positions: cos and sin of position · base^(−2j/width). The twin of host/detail/turns.hpp, which says why:
// a frequency is a pair of doubles (106 bits), counted in turns instead of radians, so that whole quarters of a turn drop out of its
// product with a position without error. Right to 2·10⁻¹⁶ for positions up to 2^40.
#pragma once

#include <cmath>

#include <longspan/core/types.hpp>

namespace longspan::cuda::detail {

/// high + low, |low| at most half a unit in the last place of high.
struct twofold {
    double high = 0, low = 0;
};

LONGSPAN_HD [[nodiscard]] inline twofold product(twofold a, twofold b) {
    const double p = std::fma(a.high, b.high, 0.0);  // no product: a compiler may not join it to the sums below
    const double e = std::fma(a.high, b.low, std::fma(a.low, b.high, std::fma(a.high, b.high, -p)));
    const double high = p + e;
    return {high, e - (high - p)};
}

/// base^(−1/n): a double's answer, and one step of Newton for r^n · base = 1.
[[nodiscard]] inline twofold inverse_root(double base, index n) {
    const double start = std::pow(base, -1.0 / static_cast<double>(n));
    twofold power{base, 0}, square{start, 0};
    for (index left = n; left > 0; left /= 2) {
        if (left % 2 == 1) power = product(power, square);
        square = product(square, square);
    }
    const double step = -((power.high - 1) + power.low) / static_cast<double>(n) * start;
    const double high = start + step;
    return {high, step - (high - start)};
}

/// The frequencies base^(−2j/width) in turns, for j below 2^`bits`: a kernel's argument.
struct turn_powers {
    static constexpr int bits = 20;
    twofold ratio[bits];  ///< [k] base^(−2·2^k/width)

    turn_powers(double base, index width) {
        const twofold root = inverse_root(base, width);
        ratio[0] = product(root, root);
        for (int k = 1; k < bits; ++k) ratio[k] = product(ratio[k - 1], ratio[k - 1]);
    }
    __device__ [[nodiscard]] twofold turns(int j) const {
        twofold all{0x1.45f306dc9c883p-3, -0x1.6b01ec5417056p-57};  // 1 / 2π
#pragma unroll
        for (int k = 0; k < bits; ++k)
            if ((j >> k & 1) != 0) all = product(all, ratio[k]);
        return all;
    }
};

struct cosine_and_sine {
    double cosine, sine;
};

/// cos and sin of 2π · turns · position.
__device__ [[nodiscard]] inline cosine_and_sine wave(twofold turns, double position) {
    const double whole = fma(turns.high, position, 0.0);
    const double rest = fma(turns.low, position, fma(turns.high, position, -whole));
    const double to_integer = 0x1.8p52;
    const double shifted = fma(whole, 4.0, to_integer);  // the nearest quarter in the low bits
    const double angle = (fma(shifted - to_integer, -0.25, whole) + rest) * 0x1.921fb54442d18p+2;
    const double z = angle * angle;
    double s = 1.58969099521155010221e-10;  // fdlibm's polynomials on ±π/4
    s = fma(s, z, -2.50507602534068634195e-08);
    s = fma(s, z, 2.75573137070700676789e-06);
    s = fma(s, z, -1.98412698298579493134e-04);
    s = fma(s, z, 8.33333333332248946124e-03);
    s = fma(s, z, -1.66666666666666324348e-01);
    double c = -1.13596475577881948265e-11;
    c = fma(c, z, 2.08757232129817482790e-09);
    c = fma(c, z, -2.75573143513906633035e-07);
    c = fma(c, z, 2.48015872894767294178e-05);
    c = fma(c, z, -1.38888888888741095749e-03);
    c = fma(c, z, 4.16666666666666019037e-02);
    s = fma(angle * z, s, angle);
    c = fma(z * z, c, fma(z, -0.5, 1.0));
    const int quarter = static_cast<int>(__double_as_longlong(shifted) & 3);
    const double along = quarter & 1 ? s : c, across = quarter & 1 ? c : s;
    // Signs: cos is negative in quarters 1 and 2, sin in 2 and 3.
    return {(quarter + 1) & 2 ? -along : along, quarter & 2 ? -across : across};
}

}  // namespace longspan::cuda::detail
