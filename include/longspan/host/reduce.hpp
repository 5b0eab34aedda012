// SPDX-License-Identifier: Apache-2.0
//
// Whole-tensor passes between backward and update: the sum of squares behind the gradient norm, the search for the first value
// that is not finite, and scaling. Memory-bound: each reads its span once.
//
// The span is cut into at most 256 parts, of a size that follows from its length alone; part sums are added in order. So the
// bits follow from the values, not from the threads. Allocates nothing (2 KiB of stack). Deterministic.
#pragma once

#include <cstddef>
#include <span>
#include <type_traits>

#include <longspan/core/types.hpp>
#include <longspan/host/pack.hpp>
#include <longspan/host/parallel.hpp>
#include <longspan/precision/format.hpp>

namespace longspan::host {

/// Σ x², in double whatever the format: no float overflows on the way, and no partial sum loses what is small.
template <class T>
    requires storage_format<std::remove_const_t<T>>
[[nodiscard]] double sum_of_squares(std::span<T> values);

/// The place of the first NaN or infinity, or -1: the step's check that names the tensor.
template <class T>
    requires storage_format<std::remove_const_t<T>>
[[nodiscard]] index first_non_finite(std::span<T> values);

/// x *= factor, rounded once.
template <storage_format T>
void scale(std::span<T> values, compute_t<T> factor);

namespace detail {

/// At most 256 parts of whole packs.
struct partition {
    static constexpr index most = 256;
    index values, part;

    explicit constexpr partition(index count) : values(count), part(round_up(ceil_div(count, most), 1024)) {}
    [[nodiscard]] constexpr index count() const { return part == 0 ? 0 : ceil_div(values, part); }
    [[nodiscard]] constexpr index begin(index i) const { return i * part; }
    [[nodiscard]] constexpr index end(index i) const { return (i + 1) * part < values ? (i + 1) * part : values; }
};

/// 16 values widened to double, squared and added lane by lane.
template <class T>
LONGSPAN_INLINE void add_squares(const T* from, index count, pack<double> (&sums)[2]) {
    constexpr int lanes = pack<double>::lanes;
    double wide[2 * lanes] = {};
    if (count == 2 * lanes) {
        for (int i = 0; i < 2 * lanes; ++i) wide[i] = static_cast<double>(to_compute(from[i]));
    } else {
        for (int i = 0; i < count; ++i) wide[i] = static_cast<double>(to_compute(from[i]));
    }
    for (int h = 0; h < 2; ++h) {
        const pack<double> x = pack<double>::load(wide + h * lanes);
        sums[h] = fma(x, x, sums[h]);
    }
}

}  // namespace detail

template <class T>
    requires storage_format<std::remove_const_t<T>>
double sum_of_squares(std::span<T> values) {
    const detail::partition parts(static_cast<index>(values.size()));
    double part_sums[detail::partition::most];
    parallel_for(parts.count(), [&](index part) {
        constexpr index step = 2 * pack<double>::lanes;
        pack<double> sums[2] = {pack<double>::zero(), pack<double>::zero()};
        index i = parts.begin(part);
        const index end = parts.end(part);
        for (; i + step <= end; i += step) detail::add_squares(values.data() + i, step, sums);
        if (i < end) detail::add_squares(values.data() + i, end - i, sums);
        part_sums[part] = sum(sums[0] + sums[1]);
    });
    double total = 0;
    for (index part = 0; part < parts.count(); ++part) total += part_sums[part];
    return total;
}

template <class T>
    requires storage_format<std::remove_const_t<T>>
index first_non_finite(std::span<T> values) {
    using P = pack_of<std::remove_const_t<T>>;
    constexpr index block = 16 * P::lanes;
    const detail::partition parts(static_cast<index>(values.size()));
    index found[detail::partition::most];
    parallel_for(parts.count(), [&](index part) {
        found[part] = -1;
        for (index b = parts.begin(part); b < parts.end(part); b += block) {
            const index end = b + block < parts.end(part) ? b + block : parts.end(part);
            // x - x is 0, or NaN where x is not finite.
            P zeros = P::zero();
            index i = b;
            for (; i + P::lanes <= end; i += P::lanes) {
                const P x = P::load(values.data() + i);
                zeros += x - x;
            }
            if (i < end) {
                const P x = P::load(values.data() + i, end - i);
                zeros += x - x;
            }
            if (sum(zeros) == 0) continue;
            for (i = b; i < end; ++i) {
                const auto x = to_compute(values[static_cast<std::size_t>(i)]);
                if (x - x != 0) {
                    found[part] = i;
                    return;
                }
            }
        }
    });
    for (index part = 0; part < parts.count(); ++part)
        if (found[part] >= 0) return found[part];
    return -1;
}

template <storage_format T>
void scale(std::span<T> values, compute_t<T> factor) {
    using P = pack_of<T>;
    const detail::partition parts(static_cast<index>(values.size()));
    const P factors = P::broadcast(factor);
    parallel_for(parts.count(), [&](index part) {
        index i = parts.begin(part);
        const index end = parts.end(part);
        for (; i + P::lanes <= end; i += P::lanes) (P::load(values.data() + i) * factors).store(values.data() + i);
        if (i < end) (P::load(values.data() + i, end - i) * factors).store(values.data() + i, end - i);
    });
}

}  // namespace longspan::host
