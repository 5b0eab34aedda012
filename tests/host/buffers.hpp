// SPDX-License-Identifier: Apache-2.0
//
// What the tests of host ops share: matrices in guarded memory with gaps between their rows, random values, thread counts.
#pragma once

#include <cmath>
#include <cstring>
#include <limits>
#include <random>
#include <vector>

#if defined(_OPENMP)
#include <omp.h>
#endif

#include <longspan/core/view.hpp>
#include <longspan/precision/format.hpp>

namespace test {

using longspan::index;
using longspan::matrix_view;

/// A NaN with a pattern of its own: what lies around and between rows, and in outputs before they are written.
template <class T>
T poison() {
    if constexpr (sizeof(T) == 2) {
        return T::from_bits(0x7fd5);
    } else {
        return std::numeric_limits<T>::quiet_NaN();
    }
}

/// A [rows, columns] matrix whose rows lie `gap` elements apart, in memory of its own with a guard on both sides.
template <class T>
class matrix {
public:
    matrix(index rows, index columns, index gap = 3)
        : rows_(rows),
          columns_(columns),
          stride_(columns + gap),
          memory_(static_cast<std::size_t>(rows * stride_ + 2 * guard), poison<T>()) {}

    [[nodiscard]] matrix_view<T> view() { return {memory_.data() + guard, rows_, columns_, stride_}; }
    [[nodiscard]] T& operator()(index r, index c) { return view()(r, c); }
    [[nodiscard]] double value(index r, index c) { return static_cast<double>(longspan::to_compute(view()(r, c))); }

    matrix& fill_random(std::mt19937& generator, double scale = 1) {
        std::normal_distribution<double> normal;  // of deviation 1: 0 is none that it takes
        for (index r = 0; r < rows_; ++r)
            for (index c = 0; c < columns_; ++c)
                (*this)(r, c) = longspan::from_compute<T>(static_cast<longspan::compute_t<T>>(scale * normal(generator)));
        return *this;
    }

    /// Guards and gaps hold what they held.
    [[nodiscard]] bool intact() {
        const T expected = poison<T>();
        const auto is_poison = [&](const T& x) { return std::memcmp(&x, &expected, sizeof(T)) == 0; };
        for (index i = 0; i < static_cast<index>(memory_.size()); ++i) {
            const index at = i - guard;
            const bool inside = at >= 0 && at < rows_ * stride_ && at % stride_ < columns_;
            if (!inside && !is_poison(memory_[static_cast<std::size_t>(i)])) return false;
        }
        return true;
    }
    [[nodiscard]] bool same_bits(const matrix& other) const {
        return memory_.size() == other.memory_.size() &&
               std::memcmp(memory_.data(), other.memory_.data(), memory_.size() * sizeof(T)) == 0;
    }

private:
    static constexpr index guard = 64;
    index rows_, columns_, stride_;
    std::vector<T> memory_;
};

inline void use_threads([[maybe_unused]] int count) {
#if defined(_OPENMP)
    omp_set_num_threads(count);
#endif
}

/// Restores the thread count of the other tests.
struct threads_restored {
#if defined(_OPENMP)
    int before = omp_get_max_threads();
    ~threads_restored() { omp_set_num_threads(before); }
#else
    ~threads_restored() {}
#endif
};

}  // namespace test
